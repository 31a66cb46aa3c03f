package admin

import (
	"context"
	"errors"

	"github.com/postrider/postrider/internal/dbconn"
)

// Cancel says which messages of a subscription are not wanted any more: those with the ids, or, without ids, those with a topic that the
// pattern matches and with the key, as far as these are given.
type Cancel struct {
	Subscription string
	IDs          []int64
	Topic        *string
	Key          *string
	Reason       string // empty: none
}

// Cancelled counts what came of it.
type Cancelled struct {
	Requested int64 // of those that a relay delivers: they are cancelled at its next save, unless they are delivered before
	Cancelled int64 // they are never delivered
}

// CancelMessages asks for messages to be cancelled. What keeps one of the ids from it is returned as refused. Ids before an error count.
func CancelMessages(ctx context.Context, db *dbconn.Conn, c Cancel) (n Cancelled, refused, err error) {
	if err := requireSubscription(ctx, db, c.Subscription); err != nil {
		return n, nil, err
	}
	reason := db.Encoding().Storable(c.Reason)
	if len(c.IDs) == 0 {
		var workers bool
		var many int64
		err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM postrider.shard_settings WHERE subscription = $1),
			postrider.cancel_many($1, topic => $2, key => $3, reason => nullif($4, ''))`, c.Subscription, c.Topic, c.Key, reason).Scan(&workers, &many)
		if workers {
			return Cancelled{Cancelled: many}, nil, err
		}
		return Cancelled{Requested: many}, nil, err
	}
	var refusals []error
	for _, id := range c.IDs { // each by itself: together they would hold the shards of a sql: subscription, one after the other
		refusal, err := n.cancel(ctx, db, c.Subscription, id, reason)
		if err != nil {
			return n, errors.Join(refusals...), err
		}
		refusals = append(refusals, refusal)
	}
	return n, errors.Join(refusals...), nil
}

func (n *Cancelled) cancel(ctx context.Context, db *dbconn.Conn, name string, id int64, reason string) (refused, err error) {
	var known bool
	if err := db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM postrider.deliveries_of($1, $2))", id, name).Scan(&known); err != nil {
		return nil, err
	}
	if !known {
		return errorf(NotFound, "message %d: subscription %q does not want it, or it has left the log", id, name), nil
	}
	var answer string
	if err := db.QueryRow(ctx, "SELECT answer FROM postrider.cancel($1, $2, nullif($3, ''))", id, name, reason).Scan(&answer); err != nil {
		return nil, err
	}
	switch answer {
	case "requested":
		n.Requested++
	case "cancelled":
		n.Cancelled++
	default:
		return errorf(Conflict, "message %d is %s: it is too late to cancel it", id, answer), nil
	}
	return nil, nil
}

package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier runs a query: a *pgxpool.Pool, a *pgx.Conn, or a transaction, which is of no use to Await: what it has enqueued is not delivered
// before it has committed.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Settled is what came of a message for one subscription.
type Settled struct {
	// Status is delivered, dead, discarded or cancelled.
	Status string
	// Attempts is how often it was tried, if it is an exception; else 0.
	Attempts int
	// Reason is what was wrong, of one that is not delivered.
	Reason string
	// Result is what the worker or the endpoint gave, or nil.
	Result json.RawMessage
}

// ErrUnknown says that the subscription has no such message: it matches other topics, was made later, or the message was settled so long ago that
// it has left the log.
var ErrUnknown = errors.New("the subscription has no such message, or it has left the log")

// How often Await looks: soon at first, as most messages are settled at once.
const (
	awaitFirst = 5 * time.Millisecond
	awaitMost  = 500 * time.Millisecond
)

// Await waits until the message is settled for the subscription, and returns what came of it. It looks again and again, ever less often: up to half
// a second apart. A relay writes what it has settled down about once a second; what workers settle in SQL shows at once. The role needs what
// `postrider grants --reader` grants. Await ends with ctx's error when that is over, and with ErrUnknown.
func Await(ctx context.Context, db Querier, id int64, subscription string) (Settled, error) {
	for wait := awaitFirst; ; wait = min(2*wait, awaitMost) {
		s, over, err := look(ctx, db, id, subscription)
		if err != nil {
			return s, fmt.Errorf("await message %d of %s: %w", id, subscription, err)
		}
		if over {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return Settled{}, fmt.Errorf("await message %d of %s: it is %s: %w", id, subscription, s.Status, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func look(ctx context.Context, db Querier, id int64, subscription string) (s Settled, over bool, err error) {
	var result []byte
	err = db.QueryRow(ctx, "SELECT status, coalesce(attempts, 0), coalesce(reason, ''), result::text FROM postrider.deliveries_of($1, $2) LIMIT 1", id, subscription).
		Scan(&s.Status, &s.Attempts, &s.Reason, &result)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, false, ErrUnknown
	}
	s.Result = result
	switch s.Status {
	case "delivered", "dead", "discarded", "cancelled":
		return s, true, err
	}
	return s, false, err
}

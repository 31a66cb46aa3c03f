package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// CalledBack is a delivery whose callback came, or whose lease is over.
type CalledBack struct {
	Name    string
	Message snapshot.Ident
	State   string // completed, failed or, if the lease is over, leased
	Due     *time.Time
	Reason  string
}

// A lease that is over is locked for a moment: a heartbeat that began before its end may be about to commit. A callback that
// somebody leaves open in a session keeps its own delivery waiting, and nothing else.
var (
	lookCallbacks = `SELECT n.name, p.* FROM unnest($1::text[]) n (name) CROSS JOIN LATERAL (
		SELECT id, timestamptz_send(created_at), state, timestamptz_send(due), coalesce(reason, '') FROM postrider.parked
		WHERE subscription = n.name AND state IN (` + states.SQL(states.State.CalledBack) + `) ORDER BY id LIMIT $2) p`
	lookLeases = `SELECT n.name, p.* FROM unnest($1::text[]) n (name) CROSS JOIN LATERAL (
		SELECT id, timestamptz_send(created_at), state, timestamptz_send(due), coalesce(reason, '') FROM postrider.parked
		WHERE subscription = n.name AND state = '` + states.Leased + `' AND due <= clock_timestamp() AND worker IS NULL LIMIT $2 FOR UPDATE SKIP LOCKED) p`
)

// ReadCallbacks returns the deliveries of these subscriptions whose callback came, or whose lease is over, so many of each at most.
func (d *Database) ReadCallbacks(ctx context.Context, names []string, most int) (found []CalledBack, err error) {
	err = writeLocal(ctx, d.Pool, func(b *pgx.Batch) { // it locks
		for _, query := range []string{lookCallbacks, lookLeases} {
			b.Queue(query, names, most).Query(func(rows pgx.Rows) error {
				some, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c CalledBack, err error) {
					return scanCalledBack(r)
				})
				found = append(found, some...)
				return err
			})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read callbacks: %w", err)
	}
	return found, nil
}

// scanCalledBack takes times as PostgreSQL has them: infinity must not fail the read for all subscriptions.
func scanCalledBack(r pgx.CollectableRow) (c CalledBack, err error) {
	var created, due []byte
	if err := r.Scan(&c.Name, &c.Message.ID, &created, &c.State, &due, &c.Reason); err != nil {
		return c, err
	}
	var err1, err2 error
	c.Message.Born, err1 = message.DecodeInt(created)
	if due != nil {
		c.Due = new(time.Time)
		*c.Due, err2 = message.DecodeTime(due)
	}
	return c, errors.Join(err1, err2)
}

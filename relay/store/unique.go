package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Unique are the unique keys of messages.
type Unique struct{ Pool *dbconn.Pool }

// EnqueueAgain enqueues duplicates whose first message is settled by now. It commits as the server is set to: what was promised to a
// producer is kept as well as a message. Asked along with that, since a quiet relay asks little: what else there is to do.
func (u Unique) EnqueueAgain(ctx context.Context) (asked Asked, err error) {
	var enqueued *int64
	err = u.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM postrider.cancels), EXISTS (SELECT FROM postrider.operations WHERE finished_at IS NULL),
		CASE WHEN EXISTS (SELECT FROM postrider.unique_again) THEN postrider.enqueue_again() END`).
		Scan(&asked.Cancels, &asked.Operations, &enqueued)
	if err != nil {
		return Asked{}, fmt.Errorf("enqueue duplicates again: %w", err)
	}
	return asked, nil
}

// Asked is what somebody has asked relays for.
type Asked struct {
	Cancels    bool // messages are to be cancelled
	Operations bool // operations are to be worked off
}

// Expire removes keys that are free again, of so many from an id on. It returns the id that it has come to, and how many it looked at.
func (u Unique) Expire(ctx context.Context, after int64, most int) (at int64, looked int, err error) {
	err = writeLocal(ctx, u.Pool, func(b *pgx.Batch) {
		b.Queue("SELECT at, looked FROM postrider.expire_unique($1, $2)", after, most).QueryRow(func(row pgx.Row) error { return row.Scan(&at, &looked) })
	})
	if err != nil {
		return 0, 0, fmt.Errorf("remove unique keys: %w", err)
	}
	return at, looked, nil
}

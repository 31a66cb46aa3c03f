package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Operations are what somebody wants done to many messages.
type Operations struct{ Pool *dbconn.Pool }

// Work does a chunk of an operation, if one is due and nobody is at it. It returns whether it did, whether there is
// more to do, and how long that is to be waited for. It commits as the server is set to: a cancel that was promised is kept.
func (o Operations) Work(ctx context.Context, relay string) (did bool, wait time.Duration, more bool, err error) {
	var id *int64
	var seconds *float64
	err = o.Pool.QueryRow(ctx, "SELECT id, extract(epoch FROM wait)::float8 FROM postrider.work_operation($1)", relay).Scan(&id, &seconds)
	if err != nil {
		return false, 0, false, fmt.Errorf("work on an operation: %w", err)
	}
	if seconds == nil {
		return id != nil, 0, false, nil
	}
	return id != nil, time.Duration(*seconds * float64(time.Second)), true, nil
}

// Expire removes operations that ended longer ago.
func (o Operations) Expire(ctx context.Context, keep time.Duration) error {
	err := writeLocal(ctx, o.Pool, func(b *pgx.Batch) { b.Queue("SELECT postrider.expire_operations($1)", keep) })
	if err != nil {
		return fmt.Errorf("remove old operations: %w", err)
	}
	return nil
}

package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Enqueue inserts a message in the transaction and returns its id. Ids ascend in the order of insertion. An *InvalidError,
// which is about the message itself, leaves the transaction usable.
func Enqueue(ctx context.Context, tx Tx, m Message) (int64, error) {
	r, err := m.encode(ctx)
	if err != nil {
		return 0, fmt.Errorf("enqueue: %w", err)
	}
	sql, args := r.insert()
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("enqueue: %w", err)
	}
	id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, fmt.Errorf("enqueue: %w", err)
	}
	return id, nil
}

// EnqueueBatch inserts messages in the transaction, with one statement for up to thousands of them, and returns their ids in
// the same order; they ascend. All messages are checked first: an *InvalidError, about one of them, leaves the transaction usable
// and nothing enqueued.
func EnqueueBatch(ctx context.Context, tx Tx, messages []Message) ([]int64, error) {
	return enqueueBatch(ctx, messages, true, func(sql string, args []any) ([]int64, error) {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[int64])
	})
}

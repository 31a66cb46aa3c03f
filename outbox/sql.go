package outbox

import (
	"context"
	"errors"
	"fmt"
)

// EnqueueSQL is Enqueue for database/sql.
func EnqueueSQL(ctx context.Context, tx SQLTx, m Message) (int64, error) {
	r, err := m.encode(ctx)
	if err != nil {
		return 0, fmt.Errorf("enqueue: %w", err)
	}
	query, args := r.insert()
	ids, err := queryIDs(ctx, tx, query, args)
	if err == nil && len(ids) != 1 {
		err = fmt.Errorf("the database returned %d ids instead of 1", len(ids))
	}
	if err != nil {
		return 0, fmt.Errorf("enqueue: %w", err)
	}
	return ids[0], nil
}

// EnqueueBatchSQL is EnqueueBatch for database/sql.
func EnqueueBatchSQL(ctx context.Context, tx SQLTx, messages []Message) ([]int64, error) {
	return enqueueBatch(ctx, messages, false, func(sql string, args []any) ([]int64, error) {
		return queryIDs(ctx, tx, sql, args)
	})
}

func queryIDs(ctx context.Context, tx SQLTx, query string, args []any) (ids []int64, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

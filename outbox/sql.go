package outbox

import (
	"context"
	"errors"
)

// EnqueueSQL is Enqueue for database/sql.
func EnqueueSQL(ctx context.Context, tx SQLTx, m Message) (int64, error) {
	result, err := EnqueueUniqueSQL(ctx, tx, m)
	return result.ID, err
}

// EnqueueBatchSQL is EnqueueBatch for database/sql.
func EnqueueBatchSQL(ctx context.Context, tx SQLTx, messages []Message) ([]int64, error) {
	results, err := EnqueueUniqueBatchSQL(ctx, tx, messages)
	return idsOf(results), err
}

// EnqueueUniqueSQL is EnqueueUnique for database/sql.
func EnqueueUniqueSQL(ctx context.Context, tx SQLTx, m Message) (Result, error) {
	return enqueueOne(ctx, m, false, sqlQuery(ctx, tx))
}

// EnqueueUniqueBatchSQL is EnqueueUniqueBatch for database/sql.
func EnqueueUniqueBatchSQL(ctx context.Context, tx SQLTx, messages []Message) ([]Result, error) {
	return enqueueBatch(ctx, messages, false, sqlQuery(ctx, tx))
}

func sqlQuery(ctx context.Context, tx SQLTx) query {
	return func(s statement) (results []Result, err error) {
		rows, err := tx.QueryContext(ctx, s.sql, s.args...)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var r Result
			if err := rows.Scan(r.columns(s)...); err != nil {
				return nil, err
			}
			results = append(results, r)
		}
		return results, rows.Err()
	}
}

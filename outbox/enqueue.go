package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Enqueue inserts a message in the transaction and returns its id. Ids ascend in the order of insertion. An *InvalidError,
// which is about the message itself, leaves the transaction usable. Of a message with a unique key that another one has it returns that
// one's id; EnqueueUnique says so.
func Enqueue(ctx context.Context, tx Tx, m Message) (int64, error) {
	result, err := EnqueueUnique(ctx, tx, m)
	return result.ID, err
}

// EnqueueBatch inserts messages in the transaction, with one statement for up to thousands of them, and returns their ids in
// the same order; they ascend, but for those of duplicates. All messages are checked first: an *InvalidError, about one of them, leaves the
// transaction usable and nothing enqueued.
func EnqueueBatch(ctx context.Context, tx Tx, messages []Message) ([]int64, error) {
	results, err := EnqueueUniqueBatch(ctx, tx, messages)
	return idsOf(results), err
}

// EnqueueUnique is Enqueue that says whether the message is a duplicate. When another transaction has the message's unique key, it waits for
// what becomes of that: after a rollback the key is free. Under REPEATABLE READ and SERIALIZABLE it may fail with the SQLSTATE 40001 instead,
// which asks for the transaction to be repeated.
func EnqueueUnique(ctx context.Context, tx Tx, m Message) (Result, error) {
	return enqueueOne(ctx, m, true, pgxQuery(ctx, tx))
}

// EnqueueUniqueBatch is EnqueueBatch that says which messages are duplicates. Unique keys are taken in one order, so that batches never wait
// for each other in a circle; a transaction that enqueues several times may.
func EnqueueUniqueBatch(ctx context.Context, tx Tx, messages []Message) ([]Result, error) {
	return enqueueBatch(ctx, messages, true, pgxQuery(ctx, tx))
}

// query carries a statement out.
type query func(statement) ([]Result, error)

func pgxQuery(ctx context.Context, tx Tx) query {
	return func(s statement) ([]Result, error) {
		rows, err := tx.Query(ctx, s.sql, s.args...)
		if err != nil {
			return nil, err
		}
		var r Result
		var results []Result
		_, err = pgx.ForEachRow(rows, r.columns(s), func() error {
			results = append(results, r)
			return nil
		})
		return results, err
	}
}

// columns are what the statement returns of a message.
func (r *Result) columns(s statement) []any {
	if s.unique {
		return []any{&r.ID, &r.Duplicate}
	}
	return []any{&r.ID}
}

// enqueueOne checks a message and inserts it; native says that the driver encodes arrays.
func enqueueOne(ctx context.Context, m Message, native bool, do query) (Result, error) {
	r, err := m.encode(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("enqueue: %w", err)
	}
	results, err := do(r.statement(native))
	if err == nil && len(results) != 1 {
		err = fmt.Errorf("the database returned %d ids instead of 1", len(results))
	}
	if err != nil {
		return Result{}, fmt.Errorf("enqueue: %w", err)
	}
	return results[0], nil
}

// idsOf returns the results' ids; nil for none.
func idsOf(results []Result) []int64 {
	if results == nil {
		return nil
	}
	ids := make([]int64, len(results))
	for i, r := range results {
		ids[i] = r.ID
	}
	return ids
}

package outbox

import (
	"context"
	"fmt"
	"slices"
)

// A statement takes at most this many messages and, but for a single one, bytes.
const (
	chunkRows  = 10_000
	chunkBytes = 16 << 20
)

// enqueueBatch checks all messages, then inserts them chunk by chunk; native says that the driver encodes arrays.
func enqueueBatch(ctx context.Context, messages []Message, native bool, do query) ([]Result, error) {
	rows := make([]row, len(messages))
	for i := range messages {
		var err error
		if rows[i], err = messages[i].encode(ctx); err != nil {
			return nil, fmt.Errorf("enqueue batch: %w", at(i, err))
		}
	}
	unique := slices.ContainsFunc(rows, func(r row) bool { return r.uniqueKey != nil })
	if size := sizeOf(rows); unique && size > maxBytes {
		return nil, fmt.Errorf("enqueue batch: its messages, some with a unique key, have %d bytes together: at most %d are allowed: make several batches", size, maxBytes)
	}
	results := make([]Result, 0, len(rows))
	for len(rows) > 0 {
		n := len(rows) // unique keys are sorted within a statement
		if !unique {
			n = chunkLen(rows)
		}
		got, err := do(manyStatement(rows[:n], native, unique))
		if err == nil && len(got) != n {
			err = fmt.Errorf("the database returned %d ids instead of %d", len(got), n)
		}
		if err != nil {
			return nil, fmt.Errorf("enqueue batch: %w", err)
		}
		results, rows = append(results, got...), rows[n:]
	}
	return results, nil
}

func manyStatement(rows []row, native, unique bool) statement {
	if unique {
		return uniqueStatement(rows, native)
	}
	sql, args := insertMany(rows, native)
	return statement{sql: sql, args: args}
}

func sizeOf(rows []row) (size int) {
	for i := range rows {
		size += rows[i].size()
	}
	return size
}

// chunkLen returns how many of rows, which are not empty, go into the next statement.
func chunkLen(rows []row) int {
	size := 0
	for i := range rows {
		if size += rows[i].size(); i > 0 && (i == chunkRows || size > chunkBytes) {
			return i
		}
	}
	return len(rows)
}

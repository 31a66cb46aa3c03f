package outbox

import (
	"context"
	"fmt"
)

// A statement takes at most this many messages and, but for a single one, bytes.
const (
	chunkRows  = 10_000
	chunkBytes = 16 << 20
)

// enqueueBatch checks all messages, then inserts them chunk by chunk; native says that the driver encodes arrays.
func enqueueBatch(ctx context.Context, messages []Message, native bool, insert func(sql string, args []any) ([]int64, error)) ([]int64, error) {
	rows := make([]row, len(messages))
	for i := range messages {
		var err error
		if rows[i], err = messages[i].encode(ctx); err != nil {
			return nil, fmt.Errorf("enqueue batch: %w", at(i, err))
		}
	}
	ids := make([]int64, 0, len(rows))
	for len(rows) > 0 {
		n := chunkLen(rows)
		got, err := insert(insertMany(rows[:n], native))
		if err == nil && len(got) != n {
			err = fmt.Errorf("the database returned %d ids instead of %d", len(got), n)
		}
		if err != nil {
			return nil, fmt.Errorf("enqueue batch: %w", err)
		}
		ids, rows = append(ids, got...), rows[n:]
	}
	return ids, nil
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

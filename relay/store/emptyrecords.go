package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Records are the results of deliveries and the attempts that were kept.
type Records struct{ Pool *dbconn.Pool }

// Empty empties segments of them that are past the retention. It returns how many, and waits for no lock.
func (r Records) Empty(ctx context.Context, retention time.Duration) (n int, err error) {
	err = writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("SELECT postrider.empty_records($1)", retention).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	})
	if err != nil {
		return 0, fmt.Errorf("empty results and attempts: %w", err)
	}
	return n, nil
}

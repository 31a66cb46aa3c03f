package store

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
)

// Records are the results of deliveries and the attempts that were kept.
type Records struct{ Pool *dbconn.Pool }

// Empty empties segments of them that are past the retention. It returns how many, and waits for no lock.
func (r Records) Empty(ctx context.Context, retention time.Duration) (n int, err error) {
	if err := r.Pool.QueryRow(ctx, "SELECT postrider.empty_records($1)", retention).Scan(&n); err != nil {
		return 0, fmt.Errorf("empty results and attempts: %w", err)
	}
	return n, nil
}

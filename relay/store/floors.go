package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Floors are what is known of subscriptions that workers take from in SQL while nothing is new for them.
type Floors struct{ Pool *dbconn.Pool }

// Raise notes for all of them at once that nothing was new up to now. It returns for how many.
func (f Floors) Raise(ctx context.Context) (n int64, err error) {
	err = pgx.BeginTxFunc(ctx, f.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, localCommit.sql); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT postrider.raise_floors()").Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("raise floors: %w", err)
	}
	return n, nil
}

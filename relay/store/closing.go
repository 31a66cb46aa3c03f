package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// workersQuery says whether there are workers that keep what they have read until they COMMIT.
const workersQuery = "SELECT EXISTS (SELECT FROM postrider.shards)"

// close asks workers that take messages in SQL not to keep an old segment from now on, if nobody needs it any more: they would have it
// locked, one after another. A segment that was closed and is needed after all is opened again.
func (s Segments) close(ctx context.Context, segment int, retention time.Duration) (result Emptying, err error) {
	err = pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := prepare(ctx, tx); err != nil {
			return err
		}
		if old, err := holds(ctx, tx, oldQuery, segment, retention); err != nil || !old {
			result = SegmentStays
			return err
		}
		result = segmentClosed
		if workers, err := holds(ctx, tx, workersQuery); err != nil || !workers {
			return err
		}
		unsettled, err := holds(ctx, tx, unsettledQuery, segment)
		if err != nil {
			return err
		}
		if closed, err := holds(ctx, tx, "SELECT postrider.close_segment($1::smallint, $2)", segment, !unsettled); err != nil || !closed {
			result = SegmentNeeded
			return err
		}
		return nil
	})
	if err != nil {
		return SegmentStays, fmt.Errorf("close segment: %w", err)
	}
	return result, nil
}

// prepare makes a transaction read by index: settled rows are not to be read one by one under a lock.
func prepare(ctx context.Context, tx pgx.Tx) error {
	for _, settings := range []call{localCommit, byIndex} {
		if _, err := tx.Exec(ctx, settings.sql); err != nil {
			return fmt.Errorf("read segments: %w", err)
		}
	}
	return nil
}

// truncate empties a segment, and lets workers use it again.
func truncate(ctx context.Context, tx pgx.Tx, leaf string, segment int) error {
	if _, err := tx.Exec(ctx, "TRUNCATE ONLY "+leaf); err != nil {
		return fmt.Errorf("empty segment: %w", err)
	}
	if _, err := tx.Exec(ctx, "SELECT postrider.close_segment($1::smallint, false)", segment); err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	return nil
}

// neededNow judges under the lock.
func neededNow(ctx context.Context, tx pgx.Tx, segment int, retention time.Duration) (bool, error) {
	if old, err := holds(ctx, tx, oldQuery, segment, retention); err != nil || !old {
		return true, err
	}
	return holds(ctx, tx, unsettledQuery, segment)
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	segments          = 16
	retentionMost     = time.Minute
	retentionLockKeys = "1886352500, 1" // shared by subscribe and replay, which choose a start among the rows
)

// retention empties segments of the ring that are settled for everybody and past the retention time.
type retention struct{ *generation }

func (r *retention) run(ctx context.Context) error {
	if err := r.fitRing(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn("segments are too short for the retention: old messages may pile up", "error", err)
	}
	every := min(max(r.config.Retention/segments, time.Second), retentionMost)
	for sleep(ctx, every) {
		for segment := range segments {
			emptied, err := r.empty(ctx, segment)
			if err != nil && ctx.Err() == nil {
				r.log.Warn("segment not emptied", "segment", segment, "error", err)
				break
			}
			if emptied {
				r.metrics.emptied.Inc()
				r.log.Debug("segment emptied", "segment", segment)
			}
		}
	}
	return nil
}

// fitRing lengthens the segments if the ring would come round before the retention has passed: a segment that gets new rows
// never becomes old.
func (r *retention) fitRing(ctx context.Context) error {
	var length int64
	if err := r.pool.QueryRow(ctx, "SELECT segment_seconds FROM postrider.source").Scan(&length); err != nil {
		return fmt.Errorf("read the length of segments: %w", err)
	}
	const used = segments - 4 // what is left is emptied in time
	needed := (int64(r.config.Retention/time.Second) + used - 1) / used
	if length >= needed {
		return nil
	}
	r.log.Info("lengthening segments", "from", time.Duration(length)*time.Second, "to", time.Duration(needed)*time.Second)
	_, err := r.pool.Exec(ctx, "SELECT postrider.set_segment_length(make_interval(secs => $1))", needed)
	return err
}

// candidateQuery says whether a segment is worth locking: not current, not next, not empty, its newest row old enough.
const candidateQuery = `SELECT coalesce((
	SELECT o.created_at < clock_timestamp() - $2::interval FROM postrider.outbox o WHERE o.segment = $1::smallint ORDER BY o.id DESC LIMIT 1
	), false) AND $1 NOT IN (postrider.current_segment(), (postrider.current_segment() + 1) % 16)`

// unsettledQuery looks for a row that some cursor has not settled.
const unsettledQuery = `SELECT EXISTS (
	SELECT FROM (SELECT base::pg_snapshot AS base FROM (SELECT DISTINCT base::text FROM postrider.cursors) c (base)) b
	WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid >= pg_snapshot_xmax(b.base))
	   OR EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(b.base)))))`

// empty truncates the segment if nobody needs it any more. It waits for no lock: a waiting TRUNCATE would stall readers.
func (r *retention) empty(ctx context.Context, segment int) (bool, error) {
	if ok, err := r.holds(ctx, r.pool, candidateQuery, segment, r.config.Retention); err != nil || !ok {
		return false, err
	}
	tx, err := r.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}) // checks must see what committed before the lock
	if err != nil {
		return false, fmt.Errorf("empty segment: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, settings := range []call{localCommit, byIndex} { // settled rows are not to be read one by one under the lock
		if _, err := tx.Exec(ctx, settings.sql); err != nil {
			return false, fmt.Errorf("empty segment: %w", err)
		}
	}
	if ok, err := r.holds(ctx, tx, "SELECT pg_try_advisory_xact_lock("+retentionLockKeys+")"); err != nil || !ok {
		return false, err
	}
	leaf := fmt.Sprintf("postrider.outbox_%d", segment)
	_, err = tx.Exec(ctx, "LOCK TABLE ONLY "+leaf+" IN ACCESS EXCLUSIVE MODE NOWAIT")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55P03" { // lock_not_available
		return false, nil // in use: later
	}
	if err != nil {
		return false, fmt.Errorf("lock segment: %w", err)
	}
	if ok, err := r.holds(ctx, tx, candidateQuery, segment, r.config.Retention); err != nil || !ok {
		return false, err
	}
	if unsettled, err := r.holds(ctx, tx, unsettledQuery, segment); err != nil || unsettled {
		return false, err
	}
	if _, err := tx.Exec(ctx, "TRUNCATE ONLY "+leaf); err != nil {
		return false, fmt.Errorf("empty segment: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("empty segment: %w", err)
	}
	return true, nil
}

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (r *retention) holds(ctx context.Context, db rowQuerier, query string, args ...any) (yes bool, err error) {
	if err := db.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("look at a segment: %w", err)
	}
	return yes, nil
}

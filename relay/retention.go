package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
)

const (
	segments      = 16
	retentionMost = time.Minute
	// longestRetention keeps the lengths of segments and the times that are worked out from them within what PostgreSQL can reckon with.
	longestRetention = 10 * 365 * 24 * time.Hour
)

// retention empties segments of the ring that are settled for everybody and past the retention time.
type retention struct {
	*generation
	held    heldSegments
	unfit   string // why the ring could not be made to fit, as it was logged
	refused string // why a segment could not be emptied, as it was logged
}

func (r *retention) run(ctx context.Context) error {
	every := min(max(r.config.Retention/segments, time.Second), retentionMost)
	r.report(ctx, &r.unfit, unfitRing, r.fitRing(ctx))
	for async.Sleep(ctx, every) {
		r.round(ctx)
	}
	return nil
}

const unfitRing = "segments are too short for the retention: old messages may pile up"

// round looks at each segment once. The length of segments may have been changed at any time. One segment's trouble is not
// another's.
func (r *retention) round(ctx context.Context) {
	r.report(ctx, &r.unfit, unfitRing, r.fitRing(ctx))
	var failed error
	for segment := range segments {
		emptied, err := r.empty(ctx, segment)
		if err != nil && failed == nil {
			failed = fmt.Errorf("segment %d: %w", segment, err)
		}
		if emptied {
			r.metrics.Emptied.Inc()
			r.log.Debug("segment emptied", "segment", segment)
		}
		if ctx.Err() != nil {
			return
		}
	}
	r.report(ctx, &r.refused, "segment not emptied", failed)
	r.held.endRound()
}

// report logs an error when it is not the one that was logged before, nor one that a database that is away explains.
func (r *retention) report(ctx context.Context, logged *string, message string, err error) {
	text := ""
	if err != nil && !dberr.Away(err) {
		text = err.Error()
	}
	if text != "" && text != *logged && ctx.Err() == nil {
		r.log.Warn(message, "error", err)
	}
	*logged = text
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
const candidateQuery = "SELECT postrider.segment_is_old($1::smallint, $2::interval)"

// unsettledQuery looks for a row that some cursor has not settled.
const unsettledQuery = `SELECT EXISTS (
	SELECT FROM (SELECT base::pg_snapshot AS base FROM (SELECT DISTINCT base::text FROM postrider.cursors) c (base)) b
	WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid >= pg_snapshot_xmax(b.base))
	   OR EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(b.base)))))`

// empty truncates the segment if nobody needs it any more. It waits for no lock: a waiting TRUNCATE would stall readers.
func (r *retention) empty(ctx context.Context, segment int) (bool, error) {
	tx, err := r.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}) // checks must see what committed before the lock
	if err != nil {
		return false, fmt.Errorf("empty segment: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, settings := range []store.Call{store.LocalCommit, store.ByIndex} { // settled rows are not to be read one by one under the lock
		if _, err := tx.Exec(ctx, settings.SQL); err != nil {
			return false, fmt.Errorf("empty segment: %w", err)
		}
	}
	if ok, err := r.holds(ctx, tx, candidateQuery, segment, r.config.Retention); err != nil || !ok {
		return false, err
	}
	if ok, err := r.holds(ctx, tx, "SELECT postrider.lock_segments()"); err != nil || !ok {
		return false, err // a start is being chosen, or the schema changed: later
	}
	leaf := fmt.Sprintf("postrider.outbox_%d", segment)
	_, err = tx.Exec(ctx, "LOCK TABLE ONLY "+leaf+" IN ACCESS EXCLUSIVE MODE NOWAIT")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55P03" { // lock_not_available
		if err := tx.Rollback(ctx); err != nil {
			return false, fmt.Errorf("empty segment: %w", err)
		}
		return false, r.lookWhoHolds(ctx, segment) // in use: later
	}
	if err != nil {
		return false, fmt.Errorf("lock segment: %w", err)
	}
	r.held.free(segment)
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

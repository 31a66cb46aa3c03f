package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
)

// SegmentCount is how many segments the outbox has.
const SegmentCount = 16

// Segments is the ring of partitions that the outbox fills and empties in turn.
type Segments struct{ Pool *dbconn.Pool }

// Emptying is what came of an attempt to empty a segment.
type Emptying int

const (
	SegmentStays  Emptying = iota // it is empty already, being filled, or too young; or the ring must not be changed now
	SegmentInUse                  // somebody has locks on it
	SegmentNeeded                 // nobody uses it, but some cursor has not settled all of it
	SegmentEmptied
	segmentClosed // nobody seems to need it, and workers leave it alone
)

// Length returns how long a segment is filled.
func (s Segments) Length(ctx context.Context) (time.Duration, error) {
	var seconds int64
	if err := s.Pool.QueryRow(ctx, "SELECT segment_seconds FROM postrider.source").Scan(&seconds); err != nil {
		return 0, fmt.Errorf("read the length of segments: %w", err)
	}
	return time.Duration(seconds) * time.Second, nil
}

// Lengthen sets how long a segment is filled, in whole seconds.
func (s Segments) Lengthen(ctx context.Context, to time.Duration) error {
	_, err := s.Pool.Exec(ctx, "SELECT postrider.set_segment_length(make_interval(secs => $1))", int64(to/time.Second))
	return err
}

// oldQuery says whether a segment is worth locking: not current, not next, not empty, its newest row old enough.
const oldQuery = "SELECT postrider.segment_is_old($1::smallint, $2::interval)"

// unsettledQuery looks for a row that some cursor, or some shard, has not settled.
const unsettledQuery = `SELECT EXISTS (
	SELECT FROM (SELECT base::pg_snapshot AS base FROM (SELECT base::text FROM postrider.cursors UNION SELECT * FROM postrider.shard_bases()) c (base)) b
	WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid >= pg_snapshot_xmax(b.base))
	   OR EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = $1::smallint AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(b.base)))))`

// Empty truncates the segment if nobody needs it any more. It waits for no lock: a waiting TRUNCATE would stall readers.
func (s Segments) Empty(ctx context.Context, segment int, retention time.Duration) (Emptying, error) {
	if result, err := s.close(ctx, segment, retention); result != segmentClosed || err != nil {
		return result, err
	}
	tx, err := s.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}) // checks must see what committed before the lock
	if err != nil {
		return SegmentStays, fmt.Errorf("empty segment: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := prepare(ctx, tx); err != nil {
		return SegmentStays, err
	}
	leaf := fmt.Sprintf("postrider.outbox_%d", segment)
	if result, err := lockOld(ctx, tx, leaf, segment, retention); result != SegmentNeeded || err != nil {
		return result, err
	}
	if needed, err := neededNow(ctx, tx, segment, retention); err != nil || needed {
		return SegmentNeeded, err // if it is closed, the next attempt opens it
	}
	if err := truncate(ctx, tx, leaf, segment); err != nil {
		return SegmentNeeded, err
	}
	if err := tx.Commit(ctx); err != nil {
		return SegmentNeeded, fmt.Errorf("empty segment: %w", err)
	}
	return SegmentEmptied, nil
}

// lockOld locks a segment that looks old. It returns SegmentNeeded once it has the lock, under which everything is to be judged again.
func lockOld(ctx context.Context, tx pgx.Tx, leaf string, segment int, retention time.Duration) (Emptying, error) {
	if old, err := holds(ctx, tx, oldQuery, segment, retention); err != nil || !old {
		return SegmentStays, err
	}
	if free, err := holds(ctx, tx, "SELECT postrider.lock_segments()"); err != nil || !free {
		return SegmentStays, err // a start is being chosen, or the schema changed: later
	}
	_, err := tx.Exec(ctx, "LOCK TABLE ONLY "+leaf+" IN ACCESS EXCLUSIVE MODE NOWAIT")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55P03" { // lock_not_available
		return SegmentInUse, nil
	}
	if err != nil {
		return SegmentStays, fmt.Errorf("lock segment: %w", err)
	}
	return SegmentNeeded, nil
}

func holds(ctx context.Context, tx pgx.Tx, query string, args ...any) (yes bool, err error) {
	if err := tx.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("read a segment: %w", err)
	}
	return yes, nil
}

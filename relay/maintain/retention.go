package maintain

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
)

// retentionMost is the longest time between two looks at the ring.
const retentionMost = time.Minute

// ring is the outbox's ring of segments: store.Segments.
type ring interface {
	Length(ctx context.Context) (time.Duration, error)
	Lengthen(ctx context.Context, to time.Duration) error
	Empty(ctx context.Context, segment int, retention time.Duration) (store.Emptying, error)
	Holders(ctx context.Context, segment int) ([]store.Holder, error)
	NeededBy(ctx context.Context, segment int) ([]store.Needer, error)
	NoteHolders(ctx context.Context, held []store.Held) error
}

// Retention empties segments of the ring that are settled for everybody and past the retention time. Make one with NewRetention.
type Retention struct {
	Patience time.Duration // how long a segment may be in use before the log says who holds it

	ring    ring
	keep    time.Duration // the retention
	log     *slog.Logger
	metrics *metrics.Metrics
	held    heldSegments
	unfit   string // why the ring could not be made to fit, as it was logged
	refused string // why a segment could not be emptied, as it was logged
}

// NewRetention keeps settled messages for so long at least.
func NewRetention(r ring, keep time.Duration, log *slog.Logger, m *metrics.Metrics) *Retention {
	return &Retention{Patience: heldPatience, ring: r, keep: keep, log: log, metrics: m, held: newHeldSegments()}
}

// Job is the retention as a job. Its first turn only makes the ring fit.
func (r *Retention) Job() Job {
	return Job{every: min(max(r.keep/store.SegmentCount, time.Second), retentionMost), begin: r.fit, turn: r.Turn}
}

// Turn looks at each segment once. The length of segments may have been changed at any time. One segment's trouble is not another's.
func (r *Retention) Turn(ctx context.Context) {
	r.fit(ctx)
	var failed error
	for segment := range store.SegmentCount {
		err := r.empty(ctx, segment)
		if err != nil && failed == nil {
			failed = fmt.Errorf("segment %d: %w", segment, err)
		}
		if ctx.Err() != nil {
			return
		}
	}
	if err := r.tellWhoHolds(ctx); failed == nil {
		failed = err
	}
	r.report(ctx, &r.refused, "segment not emptied", failed)
	r.held.endTurn()
}

// empty empties one segment if nothing is against it.
func (r *Retention) empty(ctx context.Context, segment int) error {
	result, err := r.ring.Empty(ctx, segment, r.keep)
	switch {
	case err != nil:
		return err
	case result == store.SegmentInUse:
		return r.lookWhoHolds(ctx, segment)
	case result == store.SegmentNeeded:
		delete(r.held.since, segment)
		return r.lookWhoNeeds(ctx, segment)
	case result == store.SegmentEmptied:
		r.held.free(segment)
		r.metrics.Emptied.Inc()
		r.log.Debug("segment emptied", "segment", segment)
	}
	return nil
}

// report logs an error when it is not the one that was logged before, nor one that a database that is away explains.
func (r *Retention) report(ctx context.Context, logged *string, message string, err error) {
	text := ""
	if err != nil && !dberr.Away(err) {
		text = err.Error()
	}
	if text != "" && text != *logged && ctx.Err() == nil {
		r.log.Warn(message, "error", err)
	}
	*logged = text
}

// fit lengthens the segments if the ring would come round before the retention has passed: a segment that gets new rows
// never becomes old.
func (r *Retention) fit(ctx context.Context) {
	r.report(ctx, &r.unfit, "segments are too short for the retention: old messages may pile up", r.lengthen(ctx))
}

func (r *Retention) lengthen(ctx context.Context) error {
	length, err := r.ring.Length(ctx)
	if err != nil {
		return err
	}
	const used = store.SegmentCount - 4 // what is left is emptied in time
	needed := (r.keep/time.Second + used - 1) / used * time.Second
	if length >= needed {
		return nil
	}
	r.log.Info("lengthening segments", "from", length, "to", needed)
	return r.ring.Lengthen(ctx, needed)
}

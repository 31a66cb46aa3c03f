package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/relay/watch"
	"github.com/postrider/postrider/sinks"
)

// records are what is worth telling of deliveries beside where they stand: written with the next save, all or none.
type records struct {
	results  []store.Result
	attempts []store.Attempt
	told     watch.Told
	bytes    int64 // with those of a save that is under way
}

// saveRecordsAt is how many bytes of records do not wait for the next save.
const saveRecordsAt = 1 << 20

// attempted is an attempt that has ended.
type attempted struct {
	task   *task
	kind   sinks.Kind
	err    error
	worker string
}

// start is what the save that begins now takes along.
func (r *records) start() records {
	taken := *r
	r.results, r.attempts, r.told = nil, nil, watch.Told{}
	return taken
}

// saved forgets what a save has written.
func (r *records) saved(s records) {
	for _, result := range s.results {
		r.bytes -= result.Size()
	}
	for _, attempt := range s.attempts {
		r.bytes -= attempt.Size()
	}
}

func (r *records) none() bool { return len(r.results) == 0 && len(r.attempts) == 0 && r.told.None() }

// record notes what came of an attempt, after it was dealt with: what an accepted one brought, and the others themselves.
func (r *Runner) record(a attempted, now time.Time) {
	recs := &a.task.in.records
	if result := sinks.ResultOf(a.err); result != nil {
		kept := store.Result{Message: a.task.ident(), Result: result}
		recs.results = append(recs.results, kept)
		recs.bytes += kept.Size()
	}
	if r.Env.keepsAttempt(a.kind) {
		r.recordAttempt(recs, a, now)
	}
	if recs.bytes > saveRecordsAt {
		r.Env.Save()
	}
}

// keepsAttempt says whether an attempt that ended so is kept. One that was leased has not ended, one that was given back was none.
func (e *Environment) keepsAttempt(kind sinks.Kind) bool {
	switch kind {
	case sinks.KindLeased, sinks.KindReleased:
		return false
	case sinks.KindAccepted:
		return e.Sub.Settings.KeepAttempts == subscription.AttemptsAll
	}
	return e.Sub.Settings.KeepAttempts != subscription.AttemptsNone
}

func (r *Runner) recordAttempt(recs *records, a attempted, now time.Time) {
	started := a.task.sent
	if started.IsZero() {
		started = now
	}
	kept := store.Attempt{Message: a.task.ident(), Number: a.task.attempts, Started: started, Took: now.Sub(started), Worker: a.worker, Outcome: a.kind.String()}
	if a.kind == sinks.KindSnoozed {
		kept.Number++ // which is not counted
	}
	if a.err != nil && a.kind != sinks.KindAccepted {
		kept.Reason = a.err.Error()
	}
	if e := r.retries.parked.byID[a.task.ident()]; e != nil && e.state == states.Retrying {
		kept.Due = e.due
	}
	recs.attempts = append(recs.attempts, kept)
	recs.bytes += kept.Size()
}

package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// collectResults handles what came back from the sink.
func (r *Runner) collectResults(now time.Time) {
	leases := r.lanes.collectLeaseEnds()
	for _, l := range r.lanes.collectFinished() {
		l.settled(leases)
		l.busy = false
		r.lanes.inFlight--
		if l.batch[0].row.Withheld {
			r.lanes.alone--
		}
		r.limits.end(l.batch)
		r.handleBatch(l, now)
		clear(l.batch)
		clear(l.deliveries)
		if r.lanes.sending.to != nil {
			r.lanes.rest(l)
		}
	}
	for _, end := range leases {
		r.endLease(end, now)
	}
}

// batchEnd is a batch that has come back, and what follows from it as a whole.
type batchEnd struct {
	lane    *lane
	probe   bool
	through bool           // something got through
	told    bool           // each outcome is about its message alone; else the sink may have refused them all for any of them
	back    []*task        // goes back into the lanes, in order
	failed  failedDelivery // as far as it may be the destination's fault
}

func (r *Runner) handleBatch(l *lane, now time.Time) {
	end := batchEnd{lane: l, probe: l.probes, through: r.anyThrough(l)}
	end.told = end.through || len(l.batch) == 1
	if end.probe {
		l.probes = false
		r.breaker.rounds.out--
	}
	if end.through && r.breaker.gotThrough(l.started) {
		for _, l := range r.lanes.all {
			l.probes = false // what is still out belongs to no round any more
		}
	}
	for i, t := range l.batch {
		r.handleOutcome(&end, t, l.outcomes[i], now)
	}
	r.lanes.putBack(l, r.keepAsked(end.back))
	if end.failed.err != nil && !end.through {
		r.breaker.deliveryFailed(end.failed, now, r.lanes.started)
	}
}

// handleOutcome carries out what follows for one message.
func (r *Runner) handleOutcome(end *batchEnd, t *task, err error, now time.Time) {
	if r.handleNotSent(t, err, now) {
		return
	}
	kind, after := sinks.Classify(err)
	if r.gaveUp(err, kind) {
		return
	}
	r.Env.Metrics.Attempted(kind)
	t.in.dirty = true
	s := r.breaker.situation(t, end.told)
	a := s.action(kind)
	if r.uncounted(end, t, a, err, now.Add(after)) {
		return
	}
	t.attempts++
	switch {
	case a == actStop:
		r.stopping = true
		r.Env.Pause(err.Error())
		end.back = append(end.back, t)
		r.record(attempted{task: t, kind: kind, err: err}, now)
		return
	case a == actSuspect:
		r.breaker.suspect(t, end.lane, end.probe, err.Error())
		t.alone = t.alone || !end.told
		end.failed.add(kind, err, after)
		end.back = append(end.back, t)
		r.record(attempted{task: t, kind: kind, err: err}, now)
		return
	case a == actRetry && s.proven:
		r.breaker.blames = true
	case kind == sinks.KindRetryable && !s.parked && t.fault == nil:
		end.failed.add(kind, err, after)
	}
	r.free(t)
	r.conclude(t, a, kind, err, after, now)
	r.record(attempted{task: t, kind: kind, err: err}, now)
}

// handleNotSent concludes a task whose message has not come to the destination, and says whether it is one.
func (r *Runner) handleNotSent(t *task, err error, now time.Time) bool {
	if u, ok := errors.AsType[*store.UnreadError](err); ok {
		r.free(t)
		r.notRead(t, u, now)
		return true
	}
	j, ok := errors.AsType[*judgedError](err)
	if ok {
		r.free(t)
		r.judged(t, j)
	}
	return ok
}

// uncounted carries out what no attempt counts for.
func (r *Runner) uncounted(end *batchEnd, t *task, a action, err error, until time.Time) bool {
	switch a {
	case actReturn:
		end.back = append(end.back, t)
	case actSnooze:
		r.free(t)
		r.snooze(t, err.Error(), until)
	default:
		return false
	}
	return true
}

// gaveUp says whether a delivery was given up by the runner: then its outcome says nothing about the message.
func (r *Runner) gaveUp(err error, kind sinks.Kind) bool {
	return err != nil && kind != sinks.KindLeased && kind != sinks.KindAccepted && r.Life.deliver.Err() != nil
}

// getsThrough are the outcomes of destinations that work.
var getsThrough = map[sinks.Kind]bool{sinks.KindAccepted: true, sinks.KindLeased: true, sinks.KindSnoozed: true, sinks.KindReleased: true,
	sinks.KindFailed: true, sinks.KindLost: true, sinks.KindPermanent: true}

// anyThrough says whether the destination has answered for some message as one that works does.
func (r *Runner) anyThrough(l *lane) bool {
	for _, err := range l.outcomes {
		if _, unread := errors.AsType[*store.UnreadError](err); unread {
			continue // it has not come to the destination
		}
		kind, _ := sinks.Classify(err)
		if getsThrough[kind] && !r.gaveUp(err, kind) {
			return true
		}
	}
	return false
}

// failedDelivery is the worst outcome of a delivery in which nothing got through, as far as it may be the destination's fault.
type failedDelivery struct {
	kind  sinks.Kind
	err   error
	after time.Duration
}

func (f *failedDelivery) add(kind sinks.Kind, err error, after time.Duration) {
	if f.err == nil || kind > f.kind {
		f.kind, f.err = kind, err
	}
	if kind.Unavailable() {
		f.after = max(f.after, after)
	}
}

// deliveryFailed draws the conclusion from a delivery in which nothing got through.
func (b *breaker) deliveryFailed(f failedDelivery, now time.Time, started int) {
	b.evidence.failures++
	switch {
	case b.open:
		b.reason, b.misconfigured = f.err.Error(), f.kind == sinks.KindMisconfigured
		b.rounds.next = later(b.rounds.next, now.Add(f.after))
	case f.kind.Unavailable() && (!b.blames || f.after > 0):
		b.trip(now, f, started)
	case b.evidence.failures >= TripAfter:
		f.err, f.after = fmt.Errorf("%d deliveries in a row failed, the last with: %w", b.evidence.failures, f.err), 0
		b.trip(now, f, started)
	}
}

// conclude carries out what ends the task.
func (r *Runner) conclude(t *task, a action, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	if t.fault != nil {
		t.attempts = 1 // of its attempts only the last says something about the message: the others may have met an outage
	}
	if t.entry != nil {
		t.entry.busy = false
		t.attempts = t.entry.attempts + 1
	}
	if a != actSettle && !(a == actLease && r.cancels.spares(t.ident())) && r.cancelTask(t) {
		return
	}
	switch a {
	case actSettle:
		r.accepted(t, now)
	case actLease:
		r.lease(t, err, after)
	case actBury:
		r.bury(t, err.Error())
	case actAgain:
		r.retryIn(t, err.Error(), 0, now)
	default:
		r.failed(t, kind, err, after, now)
	}
}

// failed parks a message for its next attempt.
func (r *Runner) failed(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	e := t.entry
	// A retry finds the destination down, unless something got through since it failed the last time; or it is told to leave it alone.
	if e != nil && kind.Unavailable() && (after > 0 || !r.breaker.blames && r.breaker.evidence.throughAt <= e.failedAt) {
		r.breaker.trip(now, failedDelivery{kind, err, after}, r.lanes.started)
	}
	switch {
	case kind == sinks.KindFailed && after > 0: // who worked on it knows better than a backoff when to come back
		r.retryIn(t, err.Error(), after, now)
		return
	case e != nil && e.due.After(now):
		r.retries.parked.await(e) // it was sent early, to probe
		return
	}
	r.retry(t, err.Error(), after, now)
	r.retries.parked.byID[t.ident()].failedAt = r.lanes.started
}

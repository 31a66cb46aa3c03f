package relay

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// collectResults handles what came back from the sink.
func (r *runner) collectResults(now time.Time) {
	for _, l := range r.collectFinished() {
		l.busy = false
		r.inFlight--
		if l.batch[0].row.Withheld {
			r.alone--
		}
		r.handleBatch(l, now)
		clear(l.batch)
		clear(l.deliveries)
	}
}

func (r *runner) handleBatch(l *lane, now time.Time) {
	probe := l.probes
	if probe {
		l.probes = false
		r.breaker.out--
	}
	through := r.anyThrough(l)
	if through {
		r.gotThrough(l)
	}
	told := through || len(l.batch) == 1 // else it may be any of them that the sink refused them all for
	var back []*task                     // goes back into the lanes, in order
	var failed failedDelivery
	for i, t := range l.batch {
		err := l.outcomes[i]
		if u, ok := errors.AsType[*unreadError](err); ok {
			r.release(t)
			r.notRead(t, u, now)
			continue
		}
		kind, after := sinks.Classify(err)
		if r.gaveUp(err, kind) {
			continue
		}
		r.metrics.attempted(kind)
		r.dirty = true
		t.attempts++
		if kind == sinks.KindGone {
			r.stopping = true
			r.pause(err.Error())
			back = append(back, t)
			continue
		}
		if r.requeues(t, kind, told) {
			r.suspect(t, l, probe, err.Error())
			t.alone = t.alone || !told
			failed.add(kind, err, after)
			back = append(back, t)
			continue
		}
		if kind == sinks.KindRetryable && t.entry == nil && t.fault == nil {
			failed.add(kind, err, after)
		}
		r.release(t)
		r.conclude(t, kind, err, after, now)
	}
	r.putBack(l, back)
	if failed.err != nil && !through {
		r.deliveryFailed(failed, now)
	}
}

// gaveUp says whether a delivery was given up by the runner: then its outcome says nothing about the message.
func (r *runner) gaveUp(err error, kind sinks.Kind) bool {
	return err != nil && kind != sinks.KindLeased && r.deliver.Err() != nil
}

// anyThrough says whether the destination has answered for some message as one that works does.
func (r *runner) anyThrough(l *lane) bool {
	for _, err := range l.outcomes {
		if _, unread := errors.AsType[*unreadError](err); unread {
			continue // it has not come to the destination
		}
		kind, _ := sinks.Classify(err)
		if (kind == sinks.KindAccepted || kind == sinks.KindLeased || kind == sinks.KindPermanent) && !r.gaveUp(err, kind) {
			return true
		}
	}
	return false
}

// requeues says whether the task stays in the lanes: its outcome may be the destination's fault, or another message's. told says
// whether the outcome is about this message alone.
func (r *runner) requeues(t *task, kind sinks.Kind, told bool) bool {
	switch {
	case kind != sinks.KindRetryable && kind != sinks.KindUnavailable:
		return false
	case !told:
		return true
	case t.entry != nil:
		return false // its row counts its attempts
	case t.fault != nil && r.throughAt > t.fault.since:
		r.breaker.blames = true
		return false
	}
	return kind == sinks.KindUnavailable || r.breaker.open || r.failures+1 >= tripAfter
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
	if kind == sinks.KindUnavailable {
		f.after = max(f.after, after)
	}
}

// deliveryFailed draws the conclusion from a delivery in which nothing got through.
func (r *runner) deliveryFailed(f failedDelivery, now time.Time) {
	r.failures++
	b := &r.breaker
	switch {
	case b.open:
		b.reason = f.err.Error()
		b.next = later(b.next, now.Add(f.after))
	case f.kind == sinks.KindUnavailable && (!b.blames || f.after > 0):
		r.trip(now, f.after, f.err)
	case r.failures >= tripAfter:
		r.trip(now, 0, fmt.Errorf("%d deliveries in a row failed, the last with: %w", r.failures, f.err))
	}
}

// conclude settles or parks.
func (r *runner) conclude(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	if t.fault != nil {
		t.attempts = 1 // of its attempts only the last says something about the message: the others may have met an outage
	}
	if t.entry != nil {
		t.entry.busy = false
		t.attempts = t.entry.attempts + 1
	}
	switch kind {
	case sinks.KindAccepted:
		r.accepted(t, now)
	case sinks.KindLeased:
		r.deferred(t, err, after)
	case sinks.KindPermanent:
		r.bury(t, err.Error())
	default:
		r.failed(t, kind, err, after, now)
	}
}

// failed parks a message for its next attempt.
func (r *runner) failed(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	e := t.entry
	// A retry finds the destination down, unless something got through since it failed the last time; or it is told to leave it alone.
	if e != nil && kind == sinks.KindUnavailable && (after > 0 || !r.breaker.blames && r.throughAt <= e.failedAt) {
		r.trip(now, after, err)
	}
	if e != nil && e.due.After(now) {
		r.parked.await(e) // it was sent early, to probe
		return
	}
	r.retry(t, err.Error(), after, now)
	r.parked.byID[t.ident()].failedAt = r.started
}

// retry parks the message until its next attempt, or for good if that was the last.
func (r *runner) retry(t *task, reason string, after time.Duration, now time.Time) {
	s := &r.sub.Settings
	if t.attempts >= s.MaxAttempts {
		r.bury(t, fmt.Sprintf("gave up after %d attempts: %s", t.attempts, reason))
		if r.breaker.open { // the next message may be another matter
			r.breaker.waits.Reset()
		}
		return
	}
	r.park(t, stateRetrying, now.Add(max(s.Backoff(t.attempts), after)), reason)
}

func (r *runner) accepted(t *task, now time.Time) {
	if t.entry == nil {
		if t.fault == nil {
			r.metrics.arrived(now.Sub(t.row.CreatedAt))
		}
		r.settle(t)
		return
	}
	r.parked.remove(t.entry)
	r.releaseKey(t.entry.key)
}

// bury makes the message a dead letter.
func (r *runner) bury(t *task, reason string) { r.park(t, stateDead, time.Time{}, reason) }

// park makes an exception of the message, or changes the one that it is. In the log the message counts as settled: the
// parked row and the cursor are saved in one statement.
func (r *runner) park(t *task, state string, due time.Time, reason string) {
	r.dirty = true
	r.parkedC(state)
	e := t.entry
	if e == nil {
		e = &entry{id: t.row.ID, born: t.row.Born, xid: t.row.XID, key: strings.Clone(r.parkedKey(t.key)), state: state, attempts: t.attempts, due: due}
		r.parked.add(e)
		r.parked.record(&parkOp{entry: e, insert: t.row, bare: t.bare, reason: reason})
		r.settle(t)
	} else {
		e.attempts = t.attempts
		r.parked.change(e, state, due, reason)
	}
	if state == stateDead && r.sub.Settings.OnDead == subscription.DeadSkips {
		e.leaving = true // its key goes on once that is durable
	}
	if state != stateHeld && state != stateScheduled || r.parked.unsaved > r.maxTaskBytes()/2 {
		r.save()
	}
}

// putBack returns tasks to the front of where they came from.
func (r *runner) putBack(l *lane, tasks []*task) {
	var keyed, free []*task
	for _, t := range tasks {
		if t.key == "" {
			free = append(free, t)
		} else {
			keyed = append(keyed, t)
		}
	}
	if len(keyed) > 0 {
		l.queue = append(keyed, l.queue...)
	}
	if len(free) > 0 {
		r.free = append(free, r.free...)
	}
}

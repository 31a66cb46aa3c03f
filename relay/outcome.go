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
	for _, l := range r.lanes.collectFinished() {
		l.busy = false
		r.lanes.inFlight--
		if l.batch[0].row.Withheld {
			r.lanes.alone--
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
		r.breaker.rounds.out--
	}
	through := r.anyThrough(l)
	if through && r.breaker.gotThrough(l.started) {
		for _, l := range r.lanes.all {
			l.probes = false // what is still out belongs to no round any more
		}
	}
	told := through || len(l.batch) == 1 // else it may be any of them that the sink refused them all for
	var back []*task                     // goes back into the lanes, in order
	var failed failedDelivery
	for i, t := range l.batch {
		err := l.outcomes[i]
		if u, ok := errors.AsType[*unreadError](err); ok {
			r.free(t)
			r.notRead(t, u, now)
			continue
		}
		kind, after := sinks.Classify(err)
		if r.gaveUp(err, kind) {
			continue
		}
		r.env.metrics.attempted(kind)
		r.intake.dirty = true
		t.attempts++
		if kind == sinks.KindGone {
			r.stopping = true
			r.env.pause(err.Error())
			back = append(back, t)
			continue
		}
		if r.breaker.keeps(t, kind, told) {
			r.breaker.suspect(t, l, probe, err.Error())
			t.alone = t.alone || !told
			failed.add(kind, err, after)
			back = append(back, t)
			continue
		}
		if kind == sinks.KindRetryable && t.entry == nil && t.fault == nil {
			failed.add(kind, err, after)
		}
		r.free(t)
		r.conclude(t, kind, err, after, now)
	}
	r.lanes.putBack(l, back)
	if failed.err != nil && !through {
		r.breaker.deliveryFailed(failed, now, r.lanes.started)
	}
}

// gaveUp says whether a delivery was given up by the runner: then its outcome says nothing about the message.
func (r *runner) gaveUp(err error, kind sinks.Kind) bool {
	return err != nil && kind != sinks.KindLeased && r.life.deliver.Err() != nil
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

// keeps says whether the task stays in the lanes: its outcome may be the destination's fault, or another message's. told says
// whether the outcome is about this message alone.
func (b *breaker) keeps(t *task, kind sinks.Kind, told bool) bool {
	switch {
	case kind != sinks.KindRetryable && kind != sinks.KindUnavailable:
		return false
	case !told:
		return true
	case t.entry != nil:
		return false // its row counts its attempts
	case t.fault != nil && b.evidence.throughAt > t.fault.since:
		b.blames = true
		return false
	}
	return kind == sinks.KindUnavailable || b.open || b.evidence.failures+1 >= tripAfter
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
func (b *breaker) deliveryFailed(f failedDelivery, now time.Time, started int) {
	b.evidence.failures++
	switch {
	case b.open:
		b.reason = f.err.Error()
		b.rounds.next = later(b.rounds.next, now.Add(f.after))
	case f.kind == sinks.KindUnavailable && (!b.blames || f.after > 0):
		b.trip(now, f.after, f.err, started)
	case b.evidence.failures >= tripAfter:
		b.trip(now, 0, fmt.Errorf("%d deliveries in a row failed, the last with: %w", b.evidence.failures, f.err), started)
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
	if e != nil && kind == sinks.KindUnavailable && (after > 0 || !r.breaker.blames && r.breaker.evidence.throughAt <= e.failedAt) {
		r.breaker.trip(now, after, err, r.lanes.started)
	}
	if e != nil && e.due.After(now) {
		r.retries.parked.await(e) // it was sent early, to probe
		return
	}
	r.retry(t, err.Error(), after, now)
	r.retries.parked.byID[t.ident()].failedAt = r.lanes.started
}

// retry parks the message until its next attempt, or for good if that was the last.
func (r *runner) retry(t *task, reason string, after time.Duration, now time.Time) {
	s := &r.env.sub.Settings
	if t.attempts >= s.MaxAttempts {
		r.bury(t, fmt.Sprintf("gave up after %d attempts: %s", t.attempts, reason))
		if r.breaker.open { // the next message may be another matter
			r.breaker.rounds.waits.Reset()
		}
		return
	}
	r.park(t, stateRetrying, now.Add(max(s.Backoff(t.attempts), after)), reason)
}

func (r *runner) accepted(t *task, now time.Time) {
	if t.entry == nil {
		if t.fault == nil {
			r.env.metrics.arrived(now.Sub(t.row.CreatedAt))
		}
		r.intake.settle(t)
		return
	}
	r.retries.parked.remove(t.entry)
	r.retries.unblock(t.entry.key)
}

// bury makes the message a dead letter.
func (r *runner) bury(t *task, reason string) { r.park(t, stateDead, time.Time{}, reason) }

// park makes an exception of the message, or changes the one that it is. In the log the message counts as settled: the
// parked row and the cursor are saved in one statement.
func (r *runner) park(t *task, state string, due time.Time, reason string) {
	r.intake.dirty = true
	r.env.parked(state)
	e := t.entry
	if e == nil {
		e = &entry{id: t.row.ID, born: t.row.Born, xid: t.row.XID, key: strings.Clone(r.env.order().parkedKey(t.key)), state: state, attempts: t.attempts, due: due}
		r.retries.parked.add(e)
		r.retries.parked.record(&parkOp{entry: e, insert: t.row, bare: t.bare, reason: reason})
		r.intake.settle(t)
	} else {
		e.attempts = t.attempts
		r.retries.parked.change(e, state, due, reason)
	}
	if state == stateDead && r.env.sub.Settings.OnDead == subscription.DeadSkips {
		e.leaving = true // its key goes on once that is durable
	}
	if state != stateHeld && state != stateScheduled || r.retries.parked.unsaved > r.maxTaskBytes()/2 {
		r.env.save()
	}
}

// putBack returns tasks to the front of where they came from.
func (ls *lanes) putBack(l *lane, tasks []*task) {
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
		ls.free = append(free, ls.free...)
	}
}

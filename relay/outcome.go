package relay

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// collectResults handles what came back from the sink.
func (r *runner) collectResults(now time.Time) {
	for _, l := range r.collectFinished() {
		l.busy = false
		r.inFlight--
		if l.batch[0].row.withheld {
			r.alone--
		}
		r.handleBatch(l, now)
		clear(l.batch)
		clear(l.deliveries)
	}
}

func (r *runner) handleBatch(l *lane, now time.Time) {
	probe := r.breaker.prober == l
	if probe {
		r.breaker.prober = nil
	}
	var back []*task // goes back into the lanes, in order
	for i, t := range l.batch {
		err := l.outcomes[i]
		if u, ok := errors.AsType[*unreadError](err); ok {
			r.release(t)
			r.notRead(t, u, now)
			continue
		}
		kind, after := sinks.Classify(err)
		if err != nil && kind != sinks.KindDeferred && r.deliver.Err() != nil {
			continue // given up by us: it says nothing about the message
		}
		r.metrics.attempted(kind)
		r.dirty = true
		t.attempts++
		if probe {
			r.judgeProbe(t, kind, err, after, now)
		}
		if r.requeues(t, kind, err, after, now) && !(probe && r.onlyKeyLeft(t, kind)) {
			if !probe {
				t.attempts-- // only a failed probe costs its message an attempt
			}
			back = append(back, t)
			continue
		}
		r.release(t)
		r.conclude(t, kind, err, after, now)
	}
	r.putBack(l, back)
}

// requeues says whether the outcome tells of the destination, not of the message: then nothing is parked.
func (r *runner) requeues(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) bool {
	switch kind {
	case sinks.KindUnavailable:
		if t.entry != nil {
			return false // its row counts its attempts
		}
		r.breaker.trip(now, after, err)
		return true
	case sinks.KindRetryable:
		if t.entry != nil {
			return false
		}
		r.failures++
		if r.failures >= tripAfter || r.breaker.open {
			r.breaker.trip(now, 0, fmt.Errorf("%d deliveries in a row failed, the last with: %w", r.failures, err))
			return true
		}
	case sinks.KindGone:
		r.stopping = true
		r.pause(err.Error())
		return true
	}
	return false
}

// onlyKeyLeft says whether a message whose probe failed, and others of its key, are all that there is to probe with. Then it is
// parked: if it is the message that failed, nothing says that the destination is down; and after the end of a pass nothing else
// would ever come.
func (r *runner) onlyKeyLeft(t *task, kind sinks.Kind) bool {
	if r.sub.Settings.Ordering == OrderStrict {
		return kind == sinks.KindRetryable // its turn comes before all others'
	}
	if kind == sinks.KindGone || kind == sinks.KindUnavailable && r.queue != nil || r.reader != nil || r.inFlight > 0 || len(r.free) > 0 {
		return false
	}
	for _, l := range r.lanes {
		for _, other := range l.queue {
			if other.key != t.key {
				return false
			}
		}
	}
	return true
}

// conclude settles or parks.
func (r *runner) conclude(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	if t.entry != nil {
		t.entry.busy = false
	}
	switch kind {
	case sinks.KindAccepted:
		r.accepted(t, now)
	case sinks.KindDeferred:
		r.deferred(t, err, after)
	case sinks.KindPermanent:
		r.failures = 0 // the destination answers
		r.bury(t, err.Error())
	default:
		// A retry found the destination down, or was asked to leave it alone for a while.
		if kind == sinks.KindUnavailable && (after > 0 || r.successes == t.successes) {
			r.breaker.trip(now, after, err)
		}
		r.retry(t, err.Error(), after, now)
	}
}

// retry parks the message until its next attempt, or for good if that was the last.
func (r *runner) retry(t *task, reason string, after time.Duration, now time.Time) {
	s := &r.sub.Settings
	if t.attempts >= s.MaxAttempts {
		r.bury(t, fmt.Sprintf("gave up after %d attempts: %s", t.attempts, reason))
		return
	}
	r.park(t, stateRetry, now.Add(max(s.backoff(t.attempts), after)), reason)
}

func (r *runner) accepted(t *task, now time.Time) {
	r.successes++
	r.failures = 0
	if t.entry == nil {
		if t.attempts == 1 {
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
		e = &entry{id: t.row.Row, key: strings.Clone(r.parkedKey(t.key)), state: state, attempts: t.attempts, due: due}
		r.parked.add(e)
		r.parked.record(&parkOp{entry: e, insert: t.row, bare: t.bare, reason: reason})
		r.settle(t)
	} else {
		e.attempts = t.attempts
		r.parked.change(e, state, due, reason)
	}
	if state == stateDead && r.sub.Settings.OnDead == DeadSkips {
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

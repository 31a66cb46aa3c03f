package relay

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/relay/subscription"
)

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
			r.env.metrics.Arrived(now.Sub(t.row.CreatedAt))
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

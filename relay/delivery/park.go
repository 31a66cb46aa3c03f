package delivery

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
)

// retry parks the message for as long as its backoff lasts, and not shorter than after, or for good if that was its last attempt.
func (r *Runner) retry(t *task, reason string, after time.Duration, now time.Time) {
	r.retryIn(t, reason, max(r.Env.Sub.Settings.Backoff(t.attempts), after), now)
}

// retryIn parks the message for so long, or for good if that was its last attempt.
func (r *Runner) retryIn(t *task, reason string, wait time.Duration, now time.Time) {
	if t.attempts >= r.Env.Sub.Settings.MaxAttempts {
		r.bury(t, fmt.Sprintf("gave up after %d attempts: %s", t.attempts, reason))
		if r.breaker.open { // the next message may be another matter
			r.breaker.rounds.waits.Reset()
		}
		return
	}
	r.park(t, states.Retrying, now.Add(wait), reason)
}

// snooze parks the message until its time; no attempt counts.
func (r *Runner) snooze(t *task, reason string, until time.Time) {
	t.attempts = 0 // those that a suspect had may have met an outage
	if t.entry != nil {
		t.entry.busy = false
		t.attempts = t.entry.attempts
	}
	r.park(t, states.Retrying, until, reason)
}

func (r *Runner) accepted(t *task, now time.Time) {
	r.tell(t, states.Delivered, time.Time{}, "")
	delete(r.cancels.asked, t.ident()) // too late
	if t.entry == nil {
		if t.fault == nil {
			r.Env.Metrics.Arrived(now.Sub(t.row.CreatedAt))
		}
		t.in.settle(t)
		return
	}
	r.retries.parked.remove(t.entry)
	r.retries.unblock(t.entry.keyed())
}

// bury makes the message a dead letter.
func (r *Runner) bury(t *task, reason string) { r.park(t, states.Dead, time.Time{}, reason) }

// park makes an exception of the message, or changes the one that it is. In the log the message counts as settled: the
// parked row and the cursor are saved in one statement.
func (r *Runner) park(t *task, state string, due time.Time, reason string) {
	t.in.dirty = true
	if asked, ok := r.cancels.of(t.ident()); ok && !(asked.Waiting && state == states.Leased) {
		state, due, reason = states.Cancelled, time.Time{}, asked.Reason
	}
	r.Env.Metrics.Parked(state)
	r.tell(t, state, due, reason)
	e := t.entry
	if e == nil {
		e = &entry{id: t.row.ID, born: t.row.Born, xid: t.row.XID, keyClass: keyClass{strings.Clone(r.Env.order().parkedKey(t.key)), t.in.part.Class}, state: state, attempts: t.attempts, due: due}
		r.lend(e, state)
		r.retries.parked.add(e)
		r.retries.parked.record(&ParkOp{entry: e, Insert: t.row, bare: t.bare, reason: reason})
		t.in.settle(t)
	} else {
		e.attempts = t.attempts
		r.lend(e, state)
		r.retries.parked.change(e, state, due, reason)
	}
	if state == states.Cancelled || state == states.Dead && r.Env.Sub.Settings.OnDead == subscription.DeadSkips {
		e.leaving = true // its key goes on once that is durable
	}
	if state != states.Held && state != states.Scheduled || r.retries.parked.unsaved > r.maxTaskBytes()/2 {
		r.Env.Save()
	}
}

// lend has an entry that is being leased remember how.
func (r *Runner) lend(e *entry, state string) {
	if state == states.Leased {
		e.loan = r.retries.lent
	}
}

// putBack returns tasks to the front of where they came from.
func (ls *lanes) putBack(l *lane, tasks []*task) {
	var keyed, free []*task
	for _, t := range tasks {
		if t.key == "" && ls.sending.to == nil {
			free = append(free, t)
		} else {
			keyed = append(keyed, t)
		}
	}
	l.queue.addFirst(keyed)
	ls.free.returnUnkeyed(free)
}

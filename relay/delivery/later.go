package delivery

import (
	"slices"
	"time"

	"github.com/postrider/postrider/relay/states"
)

// MaxBeyond is how many scheduled messages without a place a runner takes in, in the hope that what comes after them is due. What they
// leave unsettled is bounded as everything else is.
const MaxBeyond = 1000

// beyondBound is scheduled messages that have come when max_scheduled others waited already. They stay in the log: nothing is settled or
// saved of them, so that the cursor waits before the first one.
type beyondBound struct {
	tasks []*task
	bytes int64
	next  time.Time // when the first of them is due
}

// schedule parks a message until it is due, or leaves it in the log while too many are.
func (r *Runner) schedule(t *task) {
	if r.scheduledCount() < r.Env.Sub.Settings.MaxScheduled {
		r.park(t, states.Scheduled, t.row.DeliverAt, "")
		return
	}
	b := &r.retries.scheduled.beyond
	if len(b.tasks) == 0 || t.row.DeliverAt.Before(b.next) {
		b.next = t.row.DeliverAt
	}
	b.tasks = append(b.tasks, t)
	b.bytes += t.row.Size()
}

// scheduledCount is how many messages are parked until they are due, in memory or in the table alone.
func (r *Runner) scheduledCount() int { return r.retries.parked.later + r.retries.scheduled.unseen }

// takeBeyond goes on with messages that were left in the log: with those that are due by now, and as far as there are places again.
func (r *Runner) takeBeyond(now time.Time) {
	waiting := r.retries.scheduled.beyond.tasks
	if len(waiting) == 0 || r.scheduledCount() >= r.Env.Sub.Settings.MaxScheduled && now.Before(r.retries.scheduled.beyond.next) {
		return
	}
	r.retries.scheduled.beyond = beyondBound{}
	for _, t := range waiting {
		if t.row.DeliverAt.After(now) {
			r.schedule(t)
		} else {
			r.enqueue(t)
		}
	}
}

// scheduledStop says whether scheduled messages hold up what comes after them.
func (r *Runner) scheduledStop() bool {
	b := &r.retries.scheduled.beyond
	if r.stopping || len(b.tasks) == 0 {
		return false
	}
	return len(b.tasks) >= MaxBeyond || b.bytes >= r.maxTaskBytes() || slices.ContainsFunc(r.intakes, func(in *intake) bool {
		return in.prog.Done >= MaxDone || in.live.queue == nil && in.pass.reader == nil
	})
}

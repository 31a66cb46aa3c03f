package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// lookFurther reads the next scheduled deliveries when those in memory run out.
func (r *Runner) lookFurther() {
	s := &r.retries.scheduled
	if s.horizon.IsZero() || s.loading || r.retries.parked.later > store.MaxScheduled/10 {
		return
	}
	s.loading = true
	from := s.horizon
	r.Life.done.Go(func() {
		rows, more, err := r.Env.Passes.DB.LoadScheduled(r.Life.reading, r.Env.Sub.Name, from)
		if err != nil && r.Life.reading.Err() == nil {
			r.Env.Health.Failed(health.CannotSchedule, err, r.Env.Sub.Name)
			r.Life.Wake()
			async.Sleep(r.Life.reading, time.Second)
		}
		r.mu.Lock()
		s.loading = false
		if err == nil {
			r.Env.Health.Works(health.CannotSchedule, r.Env.Sub.Name)
			entries := r.Env.entries(rows)
			r.retries.addScheduled(entries)
			s.lookFrom(entries, more)
		}
		r.mu.Unlock()
		r.Life.Wake()
	})
}

// scheduledAhead is what a runner knows of its scheduled deliveries.
type scheduledAhead struct {
	horizon time.Time // later ones are only in the table; zero: all are known
	unseen  int       // how many are only in the table
	loading bool
	beyond  beyondBound
}

// lookFrom sets the horizon after deliveries were read; more says that there are later ones.
func (s *scheduledAhead) lookFrom(entries []*entry, more bool) {
	s.horizon = time.Time{}
	if more {
		s.horizon = entries[len(entries)-1].due
	} else {
		s.unseen = 0
	}
}

// addScheduled takes in scheduled deliveries that were read from the table, in order of time.
func (q *retries) addScheduled(entries []*entry) {
	for _, e := range entries {
		if !q.parked.knows(e.ident()) {
			q.parked.add(e)
			q.scheduled.unseen = max(q.scheduled.unseen-1, 0)
		}
	}
}

// trimScheduled forgets scheduled deliveries when they have become too many for memory: the next ones are looked up again. Not
// while that goes on, since the look-up may be older than what is forgotten.
func (q *retries) trimScheduled() {
	if q.parked.later < 2*store.MaxScheduled || q.scheduled.loading {
		return
	}
	q.scheduled.horizon = store.DistantPast
	for _, e := range q.parked.byID {
		q.forgetScheduled(e)
	}
}

// forgetScheduled drops a scheduled delivery from memory if the table has it as it is.
func (q *retries) forgetScheduled(e *entry) {
	if e.state == states.Scheduled && e.stored == states.Scheduled && !e.busy && !q.parked.pending(e.ident()) {
		q.parked.forget(e)
		q.scheduled.unseen++
	}
}

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
	s := &r.Retries.Scheduled
	if s.horizon.IsZero() || s.Loading || r.Retries.Parked.later > store.MaxScheduled/10 {
		return
	}
	s.Loading = true
	from := s.horizon
	r.Life.done.Go(func() {
		rows, more, err := r.Env.Passes.DB.LoadScheduled(r.Life.reading, r.Env.Sub.Name, from)
		if err != nil && r.Life.reading.Err() == nil {
			r.Env.Health.Failed(health.CannotSchedule, err, r.Env.Sub.Name)
			r.Life.Wake()
			async.Sleep(r.Life.reading, time.Second)
		}
		r.Mu.Lock()
		s.Loading = false
		if err == nil {
			r.Env.Health.Works(health.CannotSchedule, r.Env.Sub.Name)
			entries := r.Env.entries(rows)
			r.Retries.addScheduled(entries)
			s.lookFrom(entries, more)
		}
		r.Mu.Unlock()
		r.Life.Wake()
	})
}

// scheduledAhead is what a runner knows of its scheduled deliveries.
type scheduledAhead struct {
	horizon time.Time // later ones are only in the table; zero: all are known
	unseen  int       // how many are only in the table
	Loading bool
	beyond  beyondBound
}

// lookFrom sets the horizon after deliveries were read; more says that there are later ones.
func (s *scheduledAhead) lookFrom(entries []*Entry, more bool) {
	s.horizon = time.Time{}
	if more {
		s.horizon = entries[len(entries)-1].due
	} else {
		s.unseen = 0
	}
}

// addScheduled takes in scheduled deliveries that were read from the table, in order of time.
func (q *retries) addScheduled(entries []*Entry) {
	for _, e := range entries {
		if !q.Parked.knows(e.ident()) {
			q.Parked.Add(e)
			q.Scheduled.unseen = max(q.Scheduled.unseen-1, 0)
		}
	}
}

// trimScheduled forgets scheduled deliveries when they have become too many for memory: the next ones are looked up again. Not
// while that goes on, since the look-up may be older than what is forgotten.
func (q *retries) trimScheduled() {
	if q.Parked.later < 2*store.MaxScheduled || q.Scheduled.Loading {
		return
	}
	q.Scheduled.horizon = store.DistantPast
	for _, e := range q.Parked.ByID {
		q.forgetScheduled(e)
	}
}

// forgetScheduled drops a scheduled delivery from memory if the table has it as it is.
func (q *retries) forgetScheduled(e *Entry) {
	if e.State == states.Scheduled && e.stored == states.Scheduled && !e.busy && !q.Parked.pending(e.ident()) {
		q.Parked.forget(e)
		q.Scheduled.unseen++
	}
}

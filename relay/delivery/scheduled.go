package delivery

import (
	"slices"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/snapshot"
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
			r.takeInScheduled(r.Env.entries(rows), more)
		}
		s.cancelled = nil
		r.mu.Unlock()
		r.Life.Wake()
	})
}

// takeInScheduled takes in what was found beyond the horizon. Some of it may have been asked for, or cancelled, while it was being read.
func (r *Runner) takeInScheduled(found []*entry, more bool) {
	s := &r.retries.scheduled
	wanted := slices.DeleteFunc(slices.Clone(found), func(e *entry) bool { return s.cancelled[e.ident()] })
	r.retries.addScheduled(wanted)
	s.lookFrom(found, more)
	for _, e := range wanted {
		if _, asked := r.cancels.of(e.ident()); asked && r.retries.parked.byID[e.ident()] == e {
			r.cancelEntry(e)
		}
	}
}

// scheduledAhead is what a runner knows of its scheduled deliveries.
type scheduledAhead struct {
	horizon   time.Time // later ones are only in the table; zero: all are known
	unseen    int       // how many are only in the table
	loading   bool
	cancelled map[snapshot.Ident]bool // while loading: what is read may be older
	beyond    beyondBound
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

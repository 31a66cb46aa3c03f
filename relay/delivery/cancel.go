package delivery

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// cancels are what somebody wants cancelled of this subscription. A request waits for its message wherever that is: what waits becomes an
// exception at once, what is to come when it comes, and what is out when it comes back, unless it was accepted.
type cancels struct {
	asked map[snapshot.Ident]store.Cancel
	done  []store.Cancel // durably
}

// of returns the request for a message.
func (c *cancels) of(m snapshot.Ident) (store.Cancel, bool) {
	if len(c.asked) == 0 {
		return store.Cancel{}, false
	}
	asked, ok := c.asked[m]
	return asked, ok
}

// spares says that whoever works on the message is to go on.
func (c *cancels) spares(m snapshot.Ident) bool {
	asked, ok := c.of(m)
	return ok && asked.Waiting
}

// ids are those of all messages that are asked for.
func (c *cancels) ids() (ids []int64) {
	for m := range c.asked {
		ids = append(ids, m.ID)
	}
	return ids
}

// saved takes note of changes that are durable.
func (c *cancels) saved(m snapshot.Ident, op *ParkOp) {
	if op.state != states.Cancelled {
		return
	}
	if asked, ok := c.of(m); ok {
		delete(c.asked, m)
		c.done = append(c.done, asked)
	}
}

// loadCancels looks for requests before anything is delivered.
func (r *Runner) loadCancels(ctx context.Context) error {
	found, err := r.Env.Passes.DB.Cancels(ctx, r.Env.Sub.Name)
	for _, c := range found {
		r.ask(c)
	}
	return err
}

// cancelLoaded cancels what was found parked, before anything else happens to it.
func (r *Runner) cancelLoaded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cancels.asked) > 0 {
		r.cancelKnown(slices.Collect(maps.Values(r.cancels.asked)))
	}
}

func (r *Runner) ask(c store.Cancel) {
	if r.cancels.asked == nil {
		r.cancels.asked = make(map[snapshot.Ident]store.Cancel)
	}
	r.cancels.asked[c.Message] = c
}

// Cancel takes requests in. It returns the ids of those whose message may be scheduled without being remembered here: they are for
// CancelScheduled.
func (r *Runner) Cancel(list []store.Cancel) (unknown []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	for _, c := range list {
		r.ask(c)
		if r.retries.scheduled.unseen > 0 && !r.retries.parked.knows(c.Message) {
			unknown = append(unknown, c.Message.ID)
		}
	}
	r.cancelKnown(list)
	r.Life.Wake()
	return unknown
}

// CancelScheduled cancels scheduled messages that only the table remembered.
func (r *Runner) CancelScheduled(rows []store.Parked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	for _, e := range r.Env.entries(rows) {
		if _, asked := r.cancels.of(e.ident()); asked && !r.retries.parked.knows(e.ident()) {
			r.retries.addScheduled([]*entry{e})
			r.cancelEntry(e)
			r.retries.scheduled.notes(e)
		}
	}
	r.Life.Wake()
}

// notes that a delivery beyond the horizon is cancelled: once that is saved, what is being read just now may know it still.
func (s *scheduledAhead) notes(e *entry) {
	if !s.loading {
		return
	}
	if s.cancelled == nil {
		s.cancelled = make(map[snapshot.Ident]bool)
	}
	s.cancelled[e.ident()] = true
}

// Cancelled returns requests that are durably carried out since it was last called, for them to be removed.
func (r *Runner) Cancelled() (done []store.Cancel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done, r.cancels.done = r.cancels.done, nil
	return done
}

// cancelKnown cancels what is here and waits. What is out with somebody the sink is told of.
func (r *Runner) cancelKnown(list []store.Cancel) {
	r.cancelWaiting()
	out := make(map[int64]bool)
	for _, c := range list {
		out[c.Message.ID] = c.Waiting
		if e := r.retries.parked.byID[c.Message]; e != nil && !e.leaving {
			r.cancelEntry(e)
		}
	}
	if to, ok := sinks.As[sinks.Canceller](r.Env.Sink); ok {
		to.Cancel(out)
	}
}

// cancelWaiting cancels what waits in lanes, or in the log for a place.
func (r *Runner) cancelWaiting() {
	var found []*task
	isAsked := func(t *task) bool {
		_, asked := r.cancels.of(t.ident())
		return asked
	}
	look := func(w *waiting) {
		for t := range w.all {
			if isAsked(t) {
				found = append(found, t)
			}
		}
	}
	look(&r.lanes.free)
	for _, l := range r.lanes.all {
		look(&l.queue)
	}
	for _, t := range found {
		r.lanes.withdraw(t)
		r.free(t)
		r.cancelTask(t)
	}
	b := &r.retries.scheduled.beyond
	b.tasks = slices.DeleteFunc(b.tasks, func(t *task) bool {
		asked := isAsked(t)
		if asked {
			b.bytes -= t.row.Size()
			r.cancelTask(t)
		}
		return asked
	})
}

// cancelTask makes an exception of a task that nothing else knows of, if somebody wants it cancelled.
func (r *Runner) cancelTask(t *task) bool {
	if _, asked := r.cancels.of(t.ident()); !asked {
		return false
	}
	if t.entry != nil {
		t.entry.busy = false
		t.attempts = t.entry.attempts
	}
	r.park(t, states.Cancelled, time.Time{}, "")
	return true
}

// cancelEntry cancels a parked delivery, unless it is in a lane, being loaded, or with somebody who has come for it.
func (r *Runner) cancelEntry(e *entry) {
	q := &r.retries
	for _, list := range []*[]*entry{&q.toLoad, &q.postponed} {
		if i := slices.Index(*list, e); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
			e.busy = false
		}
	}
	if e.busy || e.lessors() || e.state == states.Dead || e.state == states.Leased && r.cancels.spares(e.ident()) {
		return
	}
	r.park(q.taskOf(e), states.Cancelled, time.Time{}, "")
	q.unblockOthers(e)
}

// keepAsked leaves of what goes back into the lanes what nobody wants cancelled.
func (r *Runner) keepAsked(back []*task) []*task {
	return slices.DeleteFunc(back, func(t *task) bool {
		if _, asked := r.cancels.of(t.ident()); !asked {
			return false
		}
		r.free(t)
		return r.cancelTask(t)
	})
}

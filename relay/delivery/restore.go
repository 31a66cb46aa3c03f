package delivery

import (
	"context"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

func orDefault(n, standard int) int {
	if n > 0 {
		return n
	}
	return max(standard, 1)
}

// LoadParked takes in the parked deliveries: their ids are skipped in the log, their keys are blocked.
func (r *Runner) LoadParked(ctx context.Context) (err error) {
	if err := r.loadCancels(ctx); err != nil {
		return err
	}
	any, err := r.Env.Passes.DB.AnyParked(ctx, r.Env.Sub.Name)
	if err != nil || !any {
		return err
	}
	for _, in := range r.intakes {
		in.pass.exclude = true
	}
	waiting, err := r.Env.Passes.DB.LoadParked(ctx, r.Env.Sub.Name, r.Env.Sub.Settings.OnDead == subscription.DeadHolds)
	if err != nil {
		return err
	}
	later, more, err := r.Env.Passes.DB.LoadScheduled(ctx, r.Env.Sub.Name, store.DistantPast)
	if err != nil {
		return err
	}
	r.retries.scheduled.unseen = len(later)
	if more {
		if r.retries.scheduled.unseen, err = r.Env.Passes.DB.CountScheduled(ctx, r.Env.Sub.Name); err != nil {
			return err
		}
	}
	if more && len(r.cancels.asked) > 0 {
		found, err := r.Env.Passes.DB.ScheduledOf(ctx, r.Env.Sub.Name, r.cancels.ids())
		if err != nil {
			return err
		}
		r.retries.addScheduled(r.Env.entries(found))
	}
	next := r.Env.entries(later)
	r.takeInLeases(waiting)
	r.retries.takeInParked(r.Env.entries(waiting), next)
	r.retries.scheduled.lookFrom(next, more)
	return nil
}

// entries are parked deliveries as their runner knows them.
func (e *Environment) entries(rows []store.Parked) []*entry {
	all := make([]*entry, len(rows))
	for i, p := range rows {
		all[i] = &entry{id: p.ID, born: p.Born, xid: p.XID, keyClass: keyClass{e.order().parkedKey(p.Key), e.classOf(p.Priority)}, state: p.State, stored: p.State,
			attempts: p.Attempts, due: p.Due, heapIndex: -1, loan: loan{token: p.Token, worker: p.Worker}}
	}
	return all
}

// takeInLeases finds the leases that the sink is to know. Of another kind of sink they end as those do that wait for callbacks.
func (r *Runner) takeInLeases(waiting []store.Parked) {
	for i := range waiting {
		switch p := &waiting[i]; {
		case p.State != states.Leased || p.Worker == "":
		case r.lanes.leasing.to == nil:
			p.Worker = ""
		default:
			r.lanes.leasing.found = append(r.lanes.leasing.found, sinks.Lease{ID: p.ID, Token: p.Token, Worker: p.Worker, Attempt: p.Attempts, Until: p.Due})
		}
	}
}

// takeInParked files what is parked, and lets go what waits for nothing.
func (q *retries) takeInParked(waiting, later []*entry) {
	for _, e := range waiting {
		q.parked.add(e)
		switch {
		case e.state == states.Held && e.key == "": // it was held under another ordering
			q.load(e)
		case e.state == states.Held && e.due.Unix() > 0: // it was scheduled, and holds nobody up before its turn comes
			q.parked.change(e, states.Scheduled, e.due, "")
		}
	}
	q.addScheduled(later)
	for key := range q.parked.keys {
		q.unblock(key)
	}
}

package relay

import (
	"context"

	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

func orDefault(n, standard int) int {
	if n > 0 {
		return n
	}
	return max(standard, 1)
}

// loadParked takes in the parked deliveries: their ids are skipped in the log, their keys are blocked.
func (r *runner) loadParked(ctx context.Context) (err error) {
	if r.intake.pass.exclude, err = r.env.passes.db.AnyParked(ctx, r.env.sub.Name); err != nil || !r.intake.pass.exclude {
		return err
	}
	waiting, err := r.env.passes.db.LoadParked(ctx, r.env.sub.Name, r.env.sub.Settings.OnDead == subscription.DeadHolds)
	if err != nil {
		return err
	}
	later, more, err := r.env.passes.db.LoadScheduled(ctx, r.env.sub.Name, store.DistantPast)
	if err != nil {
		return err
	}
	r.retries.scheduled.unseen = len(later)
	if more {
		if r.retries.scheduled.unseen, err = r.env.passes.db.CountScheduled(ctx, r.env.sub.Name); err != nil {
			return err
		}
	}
	next := r.env.entries(later)
	r.retries.takeInParked(r.env.entries(waiting), next)
	r.retries.scheduled.lookFrom(next, more)
	return nil
}

// entries are parked deliveries as their runner knows them.
func (e *environment) entries(rows []store.Parked) []*entry {
	all := make([]*entry, len(rows))
	for i, p := range rows {
		all[i] = &entry{id: p.ID, born: p.Born, xid: p.XID, key: e.order().parkedKey(p.Key), state: p.State, stored: p.State,
			attempts: p.Attempts, due: p.Due, heapIndex: -1}
	}
	return all
}

// takeInParked files what is parked, and lets go what waits for nothing.
func (q *retries) takeInParked(waiting, later []*entry) {
	for _, e := range waiting {
		q.parked.add(e)
		switch {
		case e.state == stateHeld && e.key == "": // it was held under another ordering
			q.load(e)
		case e.state == stateHeld && e.due.Unix() > 0: // it was scheduled, and holds nobody up before its turn comes
			q.parked.change(e, stateScheduled, e.due, "")
		}
	}
	q.addScheduled(later)
	for key := range q.parked.keys {
		q.unblock(key)
	}
}

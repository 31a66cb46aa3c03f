package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/snapshot"
)

// simSave is a save on its way to the database and back.
type simSave struct {
	item     *SaveItem
	accepted []int64 // by the time that it was collected
	applied  bool
}

// saveSome makes the next step of a save: collect, write, hear of it. again writes once more, as after a lost answer.
func (x *simRunner) saveSome(final, again bool) (acted bool) {
	switch {
	case x.r == nil:
		return false
	case x.save == nil:
		return x.collect(final)
	case !x.save.applied || again:
		if x.stale { // the epoch is another
			x.drop()
			return true
		}
		x.apply()
		return true
	}
	item := x.save.item
	x.save = nil
	x.r.SavedNow(item)
	return true
}

func (x *simRunner) collect(final bool) bool {
	item := x.r.Collect(x.sim.server.now, final)
	if item == nil {
		return false
	}
	x.save = &simSave{item: item, accepted: x.counted}
	for _, id := range x.counted {
		if !covers(item.cursor, x.sim.server.rows[id]) && !x.again[id] {
			x.sim.failf("%s: message %d was accepted, but %s does not say so", x.sub.Name, id, item.cursor)
		}
	}
	return true
}

// covers says whether a cursor's row counts a message as settled.
func covers(s snapshot.Position, r *simRow) bool {
	return s.Base.Sees(r.XID) || s.Done.Has(r.Ident()) || s.Target != nil && s.Target.Sees(r.XID) && r.ID <= s.AfterID
}

// apply is the save statement.
func (x *simRunner) apply() {
	x.save.applied = true
	x.sim.server.other()
	item := x.save.item
	stored, err := roundTrip(item.cursor)
	if err != nil {
		x.sim.failf("%s: %s cannot be stored: %v", x.sub.Name, item.cursor, err)
	}
	if !stored.Base.Covers(x.stored.Base) {
		x.sim.failf("%s: the base goes back from %s to %s", x.sub.Name, x.stored.Base, stored.Base)
	}
	x.stored = stored
	for m, op := range item.Ops {
		id := m.ID
		old := x.parked[id]
		switch {
		case op.remove:
			if old != nil && old.state != StateDiscarded {
				delete(x.parked, id)
			}
		case op.Insert != nil:
			if old == nil {
				x.parked[id] = &simEntry{state: op.state, attempts: op.attempts, due: op.due, reason: op.Reason, row: op.Insert}
				x.lease(x.parked[id], op)
				x.checkParked(id)
			}
		case old != nil && x.mayChange(old, op):
			old.state, old.attempts, old.due = op.state, op.attempts, op.due
			x.lease(old, op)
			if op.Reason != "" {
				old.reason = op.Reason
			}
			x.checkParked(id)
		}
	}
	x.checkStored()
	x.sim.notef("%s saved with %s, %d changes of parked messages", x.sub.Name, stored, len(item.Ops))
}

// stateDiscarded is what the command of that name makes of a parked message.

// redrive and discard are the commands: the runner will stop in order and load anew.
func (x *simRunner) redrive(id int64) {
	x.command(id, func(e *simEntry) { e.state, e.attempts, e.due = StateRetrying, 0, x.sim.server.now })
}

func (x *simRunner) discard(id int64) {
	x.command(id, func(e *simEntry) { e.state, e.due = StateDiscarded, time.Time{} })
}

func (x *simRunner) command(id int64, change func(*simEntry)) {
	change(x.parked[id])
	x.sim.server.other()
	x.reload, x.touched[id] = true, true
	x.sim.notef("%s: message %d is now %s", x.sub.Name, id, x.parked[id].state)
}

// replay is the command: it takes the cursor from its runner.
func (x *simRunner) replay(base snapshot.Snapshot) {
	x.stored = snapshot.Position{Base: base}
	x.begun = base
	for id := range x.parked {
		x.again[id] = true
	}
	for _, r := range x.sim.server.table {
		x.ever[r.ID] = x.ever[r.ID] && base.Sees(r.XID)
	}
	x.sim.server.other()
	x.stale = true
	x.sim.notef("%s starts again from %s", x.sub.Name, base)
}

// stopCleanly is generation.finishRunner: what is under way ends, everything is saved.
func (x *simRunner) stopCleanly() {
	if x.r == nil {
		return
	}
	x.r.Stop()
	for x.answer(0, 0) {
	}
	x.r.step(x.sim.server.now)
	x.count()
	for x.saveSome(true, false) {
	}
	if x.r != nil && !x.stale {
		x.checkStopped()
	}
	x.drop()
	x.sim.notef("%s stopped with %s", x.sub.Name, x.stored)
}

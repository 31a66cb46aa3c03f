package delivery

import (
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// simSave is a save of several parts on its way to the database and back.
type simSave struct {
	items    []*SaveItem
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
	items := x.save.items
	x.save = nil
	for _, item := range items {
		x.r.SavedNow(item)
	}
	return true
}

// collect leaves out some parts now and then: somebody has locked their rows.
func (x *simRunner) collect(final bool) bool {
	x.saves++
	save := &simSave{accepted: x.counted}
	parts := x.r.Parts()
	for n := range parts {
		part := parts[(n+x.saves)%len(parts)]
		if !final && len(save.items) > 0 && (x.saves+n)%3 == 0 {
			continue
		}
		item := x.r.Collect(part, x.sim.server.now, final)
		if item == nil {
			continue
		}
		save.items = append(save.items, item)
		for _, id := range x.counted {
			if r := x.sim.server.rows[id]; (part.Class == 0 || part.Class == r.Priority) && !covers(item.cursor, r) && !x.again[id] {
				x.sim.failf("%s: message %d was accepted, but %s does not say so", part, id, item.cursor)
			}
		}
	}
	if len(save.items) > 0 {
		x.save = save
	}
	return len(save.items) > 0
}

// covers says whether a cursor's row counts a message as settled.
func covers(s snapshot.Position, r *simRow) bool {
	return s.Base.Sees(r.XID) || s.Done.Has(r.Ident()) || s.Target != nil && s.Target.Sees(r.XID) && r.ID <= s.AfterID
}

// apply is the save statement.
func (x *simRunner) apply() {
	x.save.applied = true
	x.sim.server.other()
	x.stored = maps.Clone(x.stored)
	for _, item := range x.save.items {
		class := item.Part().Class
		stored, err := roundTrip(item.cursor)
		if err != nil {
			x.sim.failf("%s: %s cannot be stored: %v", item.Part(), item.cursor, err)
		}
		if before, there := x.stored[class]; !there || !stored.Base.Covers(before.Base) {
			x.sim.failf("%s: the base goes back from %s to %s", item.Part(), before, stored.Base)
		}
		x.stored[class] = stored
		x.applyOps(item)
		x.sim.notef("%s saved with %s, %d changes of parked messages", item.Part(), stored, len(item.Ops))
	}
	x.checkStored()
}

func (x *simRunner) applyOps(item *SaveItem) {
	for m, op := range item.Ops {
		id := m.ID
		old := x.parked[id]
		switch {
		case op.remove:
			if old != nil && old.state != states.Discarded && old.state != states.Cancelled {
				delete(x.parked, id)
			}
		case op.Insert != nil:
			if old == nil {
				x.parked[id] = &simEntry{state: op.state, attempts: op.attempts, due: op.due, reason: op.reason, row: op.Insert}
				x.lease(x.parked[id], op)
				x.checkParked(id)
			}
		case old != nil && x.mayChange(old, op):
			old.state, old.attempts, old.due = op.state, op.attempts, op.due
			x.lease(old, op)
			if op.reason != "" {
				old.reason = op.reason
			}
			x.checkParked(id)
		}
	}
}

// stateDiscarded is what the command of that name makes of a parked message.

// redrive and discard are the commands: the runner will stop in order and load anew.
func (x *simRunner) redrive(id int64) {
	x.command(id, func(e *simEntry) { e.state, e.attempts, e.due = states.Retrying, 0, x.sim.server.now })
}

func (x *simRunner) discard(id int64) {
	x.command(id, func(e *simEntry) { e.state, e.due = states.Discarded, time.Time{} })
}

func (x *simRunner) command(id int64, change func(*simEntry)) {
	change(x.parked[id])
	x.sim.server.other()
	x.reload, x.touched[id] = true, true
	x.sim.notef("%s: message %d is now %s", x.sub.Name, id, x.parked[id].state)
}

// replay is the command: it takes the cursor from its runner.
func (x *simRunner) replay(base snapshot.Snapshot) {
	for class := range x.stored {
		x.stored[class] = snapshot.Position{Base: base}
	}
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
	for !x.r.drained() {
		x.r.step(x.sim.server.now)
	}
	x.count()
	for x.saveSome(true, false) {
	}
	if x.r != nil && !x.stale {
		x.checkStopped()
	}
	x.drop()
	x.sim.notef("%s stopped with %s", x.sub.Name, x.stored)
}

// has says whether the save was of the cursor of a priority.
func (s *simSave) has(priority int16) bool {
	return slices.ContainsFunc(s.items, func(i *SaveItem) bool { return i.Part().Class == 0 || i.Part().Class == priority })
}

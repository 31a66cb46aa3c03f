package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// simLease is how long a destination may take for what it has leased.
const simLease = 20 * time.Second

// lease begins when the save is carried out.
func (x *simRunner) lease(e *simEntry, op *ParkOp) {
	if op.state == states.Leased {
		e.lease, e.token, e.worker = op.lease, op.token, op.worker
		e.due = x.sim.server.now.Add(op.lease)
	}
}

// mayChange is the condition that the save statement has for parked rows.
func (x *simRunner) mayChange(e *simEntry, op *ParkOp) bool {
	switch e.state {
	case states.Retrying, states.Held, states.Scheduled:
		return true
	case states.Failed:
		return op.state != states.Leased
	case states.Completed:
		return op.state == states.Cancelled
	case states.Leased:
		return op.state == states.Cancelled || op.state != states.Leased && !e.due.After(x.sim.server.now) || op.worker != "" && op.token == e.token
	}
	return false
}

// callBack lets a destination say what came of a message that it took over.
func (x *simRunner) callBack(op simOp) {
	for id := range x.sim.server.nextID {
		p := x.parked[id]
		if p == nil || p.state != states.Leased || p.worker != "" || !p.due.After(x.sim.server.now) {
			continue
		}
		switch op.c % 5 {
		case 0, 1:
			p.state, p.due = states.Completed, time.Time{}
			x.ever[id] = true
		case 2:
			p.state, p.due, p.reason = states.Failed, x.sim.server.now.Add(time.Duration(op.b%4)*time.Second), "failed"
		case 3:
			p.state, p.due, p.reason = states.Failed, time.Time{}, "failed for good"
		default:
			p.due = x.sim.server.now.Add(p.lease)
		}
		x.sim.server.other()
		x.sim.notef("%s: a callback makes message %d %s", x.sub.Name, id, p.state)
		return
	}
}

// look is a round of generation.readCallbacks.
func (x *simRunner) look() (acted bool) {
	if x.r == nil || x.r.retries.parked.waiting == 0 {
		return false
	}
	now := x.sim.server.now
	for id := range x.sim.server.nextID {
		p := x.parked[id]
		if p == nil || p.state != states.Completed && p.state != states.Failed && (p.state != states.Leased || p.worker != "" || p.due.After(now)) {
			continue
		}
		c := store.CalledBack{Message: p.row.Ident(), State: p.state, Reason: p.reason}
		if !p.due.IsZero() {
			c.Due = &p.due
		}
		if !x.r.CalledBack(c, now) {
			continue
		}
		acted = true
		if p.state == states.Completed {
			x.accepted[id], x.ever[id] = true, true
		}
	}
	return acted
}

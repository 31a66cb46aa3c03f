package delivery

import (
	"maps"
	"slices"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// simCancels are the rows of postrider.cancels of a subscription.
type simCancels struct {
	asked map[int64]*simCancel
	known map[int64]bool // to the runner: what goes out from now on must not be among these
	done  int            // how many messages have become cancelled
}

// simCancel is a request.
type simCancel struct {
	seen    bool // by an owner
	waiting bool // only if nobody has the message
}

func (x *simRunner) cancelOf(id int64) store.Cancel {
	return store.Cancel{Name: x.sub.Name, Message: x.sim.server.rows[id].Ident(), Reason: "nobody wants it", Waiting: x.cancels.asked[id].waiting}
}

// standing says whether a message may be cancelled, as far as the tables tell.
func (x *simRunner) standing(id int64) bool {
	r, p := x.sim.server.rows[id], x.parked[id]
	switch {
	case r == nil || !x.wants(r):
		return false
	case p == nil:
		return !r.emptied && !x.stored.covers(r)
	}
	return p.state != states.Completed && p.state != states.Dead && p.state != states.Discarded && p.state != states.Cancelled
}

// askToCancel is the command: somebody wants one of the messages that are not settled cancelled.
func (x *simRunner) askToCancel(op simOp) {
	var list []int64
	for id := range x.sim.server.nextID {
		if x.standing(id) {
			list = append(list, id)
		}
	}
	if len(list) == 0 {
		return
	}
	id := list[int(op.b)%len(list)]
	if x.cancels.asked == nil {
		x.cancels.asked = make(map[int64]*simCancel)
	}
	if x.cancels.asked[id] == nil {
		x.cancels.asked[id] = &simCancel{waiting: op.c%4 == 0}
		x.sim.server.other()
		x.sim.notef("%s: message %d is to be cancelled", x.sub.Name, id)
	}
}

// loadCancels is runner.loadCancels: who takes over looks at all that there are.
func (x *simRunner) loadCancels() {
	x.cancels.known = make(map[int64]bool)
	for id, c := range x.cancels.asked {
		x.r.ask(x.cancelOf(id))
		c.seen, x.cancels.known[id] = true, true
	}
}

// handCancels is a round of generation.lookForCancels.
func (x *simRunner) handCancels() (acted bool) {
	if x.r == nil {
		return false
	}
	for _, c := range x.r.Cancelled() {
		delete(x.cancels.asked, c.Message.ID)
		acted = true
	}
	var found []store.Cancel
	for _, id := range slices.Sorted(maps.Keys(x.cancels.asked)) {
		if c := x.cancels.asked[id]; !c.seen {
			c.seen, x.cancels.known[id] = true, true
			found = append(found, x.cancelOf(id))
		}
	}
	if len(found) > 0 {
		var rows []store.Parked
		for _, id := range x.r.Cancel(found) {
			if p := x.parked[id]; p != nil && p.state == states.Scheduled {
				rows = append(rows, store.Parked{ID: id, Born: p.row.Born, XID: p.row.XID, Key: p.row.Key, State: p.state, Attempts: p.attempts, Due: p.due})
			}
		}
		x.r.CancelScheduled(rows)
	}
	return acted || len(found) > 0
}

// endCancels is the function of that name: what is carried out, or came too late, is forgotten.
func (x *simRunner) endCancels() (acted bool) {
	before := len(x.cancels.asked)
	maps.DeleteFunc(x.cancels.asked, func(id int64, _ *simCancel) bool { return !x.standing(id) })
	return len(x.cancels.asked) < before
}

// givenUp says that the runner has given up what a receiver is to call back about. Whoever takes over knows the request, too.
func (x *simRunner) givenUp(id int64) bool {
	c := x.cancels.asked[id]
	return x.cancels.known[id] && c != nil && !c.waiting
}

// checkCancelled wants nothing to go out that is cancelled, or that the runner knows to be unwanted. For what this runner has delivered the
// request came too late: a replay may deliver it again.
func (x *simRunner) checkCancelled(id int64) {
	if p := x.parked[id]; p != nil && p.state == states.Cancelled {
		x.sim.failf("%s: message %d is delivered, but it is cancelled", x.sub.Name, id)
	}
	if x.cancels.known[id] && !x.accepted[id] {
		x.sim.failf("%s: message %d goes out, but its runner knows that it is not wanted", x.sub.Name, id)
	}
}

// cancelled counts what has become cancelled.
func (s *simulation) cancelled() (n int) {
	for _, x := range s.subs {
		n += x.cancels.done
	}
	return n
}

package delivery

import (
	"strings"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// wants says whether the message is the subscription's.
func (x *simRunner) wants(r *simRow) bool { return x.matches(r) && !x.choice.leavesOut(r.ID) }

// matches says whether it would be without a filter.
func (x *simRunner) matches(r *simRow) bool {
	return x.filter.current.Match(r.Topic) && (x.stale || !x.begun.Sees(r.XID))
}

// checkDelivery looks at a message as the sink gets it.
func (x *simRunner) checkDelivery(t *task, d *sinks.Delivery) {
	id := d.ID
	x.tries[id]++
	x.sim.notef("%s: message %d with key %q goes out, attempt %d", x.sub.Name, id, d.Key, d.Attempt)
	r := x.sim.server.rows[id]
	switch {
	case r == nil:
		x.sim.failf("%s: message %d is delivered, but not visible to others", x.sub.Name, id)
	case r.XID != t.row.XID && t.entry == nil || r.Topic != d.Topic || r.Key != d.Key || r.MessageID != d.MessageID || string(r.Payload) != string(d.Payload):
		x.sim.failf("%s: message %d is delivered as %+v", x.sub.Name, id, d.Message)
	case !x.wants(r):
		x.sim.failf("%s: message %d is delivered, but is not the subscription's", x.sub.Name, id)
	case x.choice.cannotJudge(id):
		x.sim.failf("%s: message %d is delivered, though the filter cannot judge it", x.sub.Name, id)
	case r.DeliverAt.After(x.sim.server.now):
		x.sim.failf("%s: message %d is delivered before it is due", x.sub.Name, id)
	}
	if !x.excused(id) {
		x.checkFirst(r, t)
	}
	x.checkCancelled(id)
	x.checkAlone(r, t)
	x.checkOrder(r)
}

// excused says whether a command is the reason for a message to come twice.
func (x *simRunner) excused(id int64) bool { return x.touched[id] || x.again[id] }

// checkFirst wants no message twice unless a runner was lost that had not saved it.
func (x *simRunner) checkFirst(r *simRow, t *task) {
	p := x.parked[r.ID]
	switch {
	case x.accepted[r.ID]:
		x.sim.failf("%s: message %d is delivered again by the same runner", x.sub.Name, r.ID)
	case p != nil && (p.state == states.Dead || p.state == states.Discarded):
		x.sim.failf("%s: message %d is delivered, but it is %s", x.sub.Name, r.ID, p.state)
	case p != nil && (p.state == states.Completed || p.state == states.Leased && (p.worker != "" || p.due.After(x.sim.server.now))):
		x.sim.failf("%s: message %d is delivered, but its destination has taken it over: it is %s", x.sub.Name, r.ID, p.state)
	case t.entry == nil && x.loaded.covers(r):
		x.sim.failf("%s: message %d is delivered from the log, but was settled in %s", x.sub.Name, r.ID, x.loaded)
	}
	for i, l := range x.r.lanes.all {
		for _, other := range l.batch {
			if l.busy && x.sent[i] && other != t && other.row.ID == r.ID {
				x.sim.failf("%s: message %d is delivered twice at once", x.sub.Name, r.ID)
			}
		}
	}
}

// checkOut wants no more to be out than may be, and one message of a key at most.
func (x *simRunner) checkOut() {
	n, keys := 0, make(map[string]bool)
	for _, l := range x.r.lanes.all {
		if !l.busy {
			continue
		}
		n++
		for _, t := range l.batch {
			if key := t.row.Key; key != "" && keys[key] && x.sub.Settings.Ordering == subscription.OrderByKey {
				x.sim.failf("%s: two messages of key %q are out", x.sub.Name, key)
			}
			keys[t.row.Key] = true
		}
	}
	if limit := x.sub.Settings.Limits.InFlight; limit > 0 {
		n := len(x.r.retries.parked.leases)
		for _, l := range x.r.lanes.all {
			if l.busy {
				n += len(l.batch)
			}
		}
		if n > max(limit, len(x.r.retries.parked.leases)) { // what was leased before is there, whatever the limit
			x.sim.failf("%s: %d messages are out, at most %d may be", x.sub.Name, n, limit)
		}
	}
	if n > x.sub.Settings.Lanes {
		x.sim.failf("%s: %d deliveries are out, at most %d may be", x.sub.Name, n, x.sub.Settings.Lanes)
	}
}

// checkOrder wants everything of the key that was visible when the message was inserted to be out of its way.
func (x *simRunner) checkOrder(r *simRow) {
	var before []*simRow
	switch {
	case x.again[r.ID]: // parked ones may pass what the runner, after a replay, has still to read
	case x.sub.Settings.Ordering == subscription.OrderStrict:
		before = x.sim.server.committed
	case x.sub.Settings.Ordering == subscription.OrderByKey && r.Key != "":
		before = x.sim.server.keys[r.Key]
	}
	for _, m := range before {
		if m.visible < r.inserted && m != r && x.inClass(m, r) && x.wants(m) && !x.touched[m.ID] && !x.outOfTheWay(m) {
			x.sim.failf("%s: message %d with key %q is delivered before %d, which is neither settled nor durably dead", x.sub.Name, r.ID, r.Key, m.ID)
		}
	}
}

// outOfTheWay says whether messages of the key may pass this one.
func (x *simRunner) outOfTheWay(m *simRow) bool {
	p := x.parked[m.ID]
	switch {
	case x.accepted[m.ID]:
		return true
	case p != nil && p.state == states.Dead:
		return x.sub.Settings.OnDead == subscription.DeadSkips
	case p != nil && p.state == states.Held:
		return !m.DeliverAt.IsZero() // after a restart it counts as scheduled again
	case p != nil && (p.state == states.Retrying || p.state == states.Leased || p.state == states.Failed):
		return false
	case p != nil: // scheduled, completed, discarded or cancelled
		return true
	}
	return x.loaded.covers(m) || m.emptied || m.holed || !m.DeliverAt.IsZero()
}

// checkParked looks at a parked row that has just changed.
func (x *simRunner) checkParked(id int64) {
	p := x.parked[id]
	if p.attempts > x.tries[id] {
		x.sim.failf("%s: message %d has %d attempts, but went out %d times", x.sub.Name, id, p.attempts, x.tries[id])
	}
	if p.state == states.Cancelled {
		x.cancels.done++
		return
	}
	if p.state != states.Dead {
		if p.attempts >= x.sub.Settings.MaxAttempts && p.state != states.Leased {
			x.sim.failf("%s: message %d is not dead after %d attempts", x.sub.Name, id, p.attempts)
		}
		return
	}
	x.died[id] = true
	if p.reason == "" || strings.HasPrefix(p.reason, "gave up") && p.attempts < x.sub.Settings.MaxAttempts {
		x.sim.failf("%s: message %d is dead after %d attempts because %q", x.sub.Name, id, p.attempts, p.reason)
	}
}

// checkStored wants everything that the cursor counts as settled to have been accepted, or to be parked.
func (x *simRunner) checkStored() {
	for _, r := range x.sim.server.committed {
		if x.stored.covers(r) && x.wants(r) && !x.ever[r.ID] && x.parked[r.ID] == nil {
			x.sim.failf("%s: message %d is lost: %s counts it as settled", x.sub.Name, r.ID, x.stored)
		}
	}
	for _, tx := range x.sim.server.running {
		for _, r := range tx.rows {
			if x.stored.covers(r) {
				x.sim.failf("%s: message %d of the running transaction %d counts as settled in %s", x.sub.Name, r.ID, tx.xid, x.stored)
			}
		}
	}
	for _, id := range x.save.accepted {
		if p := x.parked[id]; p != nil && !x.excused(id) && x.save.has(p.row.Priority) {
			x.sim.failf("%s: message %d was accepted, but stays %s", x.sub.Name, id, p.state)
		}
	}
}

// checkStopped wants nothing to be delivered again after a clean stop.
func (x *simRunner) checkStopped() {
	for id := range x.accepted {
		if (!x.stored.covers(x.sim.server.rows[id]) || x.parked[id] != nil) && !x.excused(id) {
			x.sim.failf("%s: message %d was accepted, but would come again after a clean stop at %s", x.sub.Name, id, x.stored)
		}
	}
}

// checkFinished wants every message to have arrived or to be dead, and nothing to be left.
func (x *simRunner) checkFinished() {
	if len(x.stored) > 1 && !x.sub.Settings.Priorities {
		x.sim.failf("%s: the classes have not become one: %s", x.sub.Name, x.stored)
	}
	for _, r := range x.sim.server.committed {
		switch {
		case !x.matches(r):
		case !x.wants(r) && x.parked[r.ID] != nil:
			x.sim.failf("%s: message %d is not wanted, but parked: %+v", x.sub.Name, r.ID, x.parked[r.ID])
		case x.wants(r) && !x.ever[r.ID] && !x.died[r.ID] && (x.parked[r.ID] == nil || x.parked[r.ID].state != states.Cancelled):
			x.sim.failf("%s: message %d has not arrived: cursor %s, parked %+v", x.sub.Name, r.ID, x.stored, x.parked[r.ID])
		case !x.stored.sees(r):
			x.sim.failf("%s: message %d is beyond the base in the end: %s", x.sub.Name, r.ID, x.stored)
		}
	}
	if x.endCancels(); len(x.cancels.asked) > 0 {
		x.sim.failf("%s: %d messages are still to be cancelled", x.sub.Name, len(x.cancels.asked))
	}
	for id, p := range x.parked {
		if p.state != states.Dead && p.state != states.Discarded && p.state != states.Cancelled {
			x.sim.failf("%s: message %d is still parked: %+v", x.sub.Name, id, p)
		}
	}
}

// checkEmpty wants a feed that serves nobody to hold nothing.
func (f *simFeed) checkEmpty() {
	f.disconnect()
	f.finishTick()
	f.ask(f.Begin(f.now))
	if n, bytes := f.budget.Queues.Load(), f.budget.Used.Load(); n != 0 || bytes != 0 || f.Active.Load() {
		f.sim.failf("without a runner there are %d queues with %d bytes; any is live: %t", n, bytes, f.Active.Load())
	}
	if txs, bytes := f.Backlog.Holds(); txs > 0 || bytes != 0 {
		f.sim.failf("the backlog has %d transactions of %d bytes", txs, bytes)
	}
}

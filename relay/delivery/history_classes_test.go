package delivery

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// simCursors are the rows of postrider.cursors of a subscription, by class.
type simCursors map[int16]snapshot.Position

// of is the cursor that says what became of a message.
func (c simCursors) of(r *simRow) snapshot.Position {
	if p, one := c[0]; one {
		return p
	}
	return c[r.Priority]
}

func (c simCursors) covers(r *simRow) bool { return covers(c.of(r), r) }

func (c simCursors) sees(r *simRow) bool { return c.of(r).Base.Sees(r.XID) }

func (c simCursors) String() string {
	var all []string
	for _, class := range slices.Sorted(maps.Keys(c)) {
		all = append(all, fmt.Sprintf("%d: %s", class, c[class]))
	}
	return strings.Join(all, "; ")
}

// arrange is postrider.arrange_classes.
func (x *simRunner) arrange() {
	one, has := x.stored[0]
	switch wants := x.sub.Settings.Priorities; {
	case wants && has:
		x.stored = simCursors{1: one, 2: one, 3: one, 4: one}
	case !wants && !has:
		first := x.stored[1]
		for _, p := range x.stored {
			if !p.Base.Equal(first.Base) || p.Target != nil || len(p.Done) > 0 {
				return
			}
		}
		x.stored = simCursors{0: first}
		x.sim.joined++
	default:
		return
	}
	x.sim.notef("%s: priorities are %t now: %s", x.sub.Name, x.sub.Settings.Priorities, x.stored)
}

// cursors are the rows as a relay reads them.
func (x *simRunner) cursors() (all []store.Cursor) {
	for _, class := range slices.Sorted(maps.Keys(x.stored)) {
		stored, err := roundTrip(x.stored[class])
		if err != nil {
			x.sim.failf("%s: the cursor cannot be read: %v", x.sub.Name, err)
		}
		all = append(all, store.Cursor{Part: subscription.Part{Subscription: x.sub.Name, Class: class}, Sub: x.sub, Position: stored})
	}
	return all
}

// prioritize turns priorities on or off.
func (x *simRunner) prioritize() {
	if x.sub.Settings.Ordering == subscription.OrderStrict {
		return
	}
	x.sub.Settings.Priorities = !x.sub.Settings.Priorities
	x.sim.server.other()
	x.reload = true
	x.sim.notef("%s: priorities: %t", x.sub.Name, x.sub.Settings.Priorities)
}

// inClass says whether the runner delivers two messages in an order of their own: not if they are of different classes.
func (x *simRunner) inClass(a, b *simRow) bool {
	return len(x.r.intakes) == 1 || a.Priority == b.Priority
}

// checkAlone wants no other message of the key to be out, of whatever class.
func (x *simRunner) checkAlone(r *simRow, t *task) {
	if x.sub.Settings.Ordering != subscription.OrderByKey || r.Key == "" {
		return
	}
	for i, l := range x.r.lanes.all {
		for _, other := range l.batch {
			if l.busy && x.sent[i] && other != t && other.row.Key == r.Key {
				x.sim.failf("%s: messages %d and %d of key %q are out at once", x.sub.Name, other.row.ID, r.ID, r.Key)
			}
		}
	}
	for _, id := range x.leases { // whatever the table says of it
		if id != r.ID && x.sim.server.rows[id].Key == r.Key && !x.again[id] && !x.again[r.ID] {
			x.sim.failf("%s: message %d goes out while a worker has %d of its key %q", x.sub.Name, r.ID, id, r.Key)
		}
	}
	for id, p := range x.parked {
		if len(x.r.intakes) > 1 && p.row.Priority != r.Priority && p.row.Key == r.Key && x.isOut(id, p) && !x.excused(id) && !x.excused(r.ID) {
			x.sim.failf("%s: message %d goes out while %d of its key %q is leased", x.sub.Name, r.ID, id, r.Key)
		}
	}
}

// isOut says whether somebody works on a parked message.
func (x *simRunner) isOut(id int64, p *simEntry) bool {
	if p.state != states.Leased || p.worker == "" {
		return p.state == states.Leased && p.due.After(x.sim.server.now) && !x.givenUp(id)
	}
	return x.leases[p.token] == id
}

package delivery

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// lessorOf is a sender of the model with all that one may be.
type lessorOf struct {
	sinks.Sink
	*simRunner
}

var _ sinks.Canceller = lessorOf{}

// Close implements sinks.Sender.
func (lessorOf) Close() error { return nil }

// Limits implements sinks.Sender.
func (l lessorOf) Limits() sinks.Limits { return l.simRunner.Limits() }

var _ sinks.Sender = (*simRunner)(nil)

// Send implements sinks.Sender: it takes note of what ends the delivery.
func (x *simRunner) Send(_ context.Context, d sinks.Delivery, done func(outcome error)) {
	if x.out[d.ID] != nil {
		x.sim.failf("%s: message %d is sent while it is out", x.sub.Name, d.ID)
	}
	x.out[d.ID] = done
}

// Limits implements sinks.Sender. The settings say how many may be out.
func (x *simRunner) Limits() sinks.Limits { return sinks.Limits{Batch: 1} }

// Close implements sinks.Sender.
func (x *simRunner) Close() error { return nil }

// takeBatch takes a lane's batch off the way to the destination, if it has not come there yet.
func (x *simRunner) takeBatch(l *lane) bool {
	if x.r.lanes.sending.to != nil {
		return x.out[l.batch[0].row.ID] != nil
	}
	if len(l.begin) == 0 {
		return false
	}
	<-l.begin
	return true
}

// giveBack lets the outcomes come back.
func (x *simRunner) giveBack(l *lane) {
	if x.r.lanes.sending.to == nil {
		x.r.finish(l)
		return
	}
	id := l.batch[0].row.ID
	done := x.out[id]
	delete(x.out, id)
	done(l.outcomes[0])
}

// Serve implements sinks.Lessor.
func (x *simRunner) Serve(leases []sinks.Lease, settle func(token int64, outcome error)) {
	x.leases, x.settle = make(map[int64]int64), settle
	for _, l := range leases {
		if p := x.parked[l.ID]; p == nil || p.token != l.Token || p.worker != l.Worker || x.leases[l.Token] != 0 {
			x.sim.failf("%s: lease %+v is found, but the table has %+v", x.sub.Name, l, p)
		}
		x.leases[l.Token] = l.ID
	}
	for id, p := range x.parked {
		if _, found := x.leases[p.token]; p.state == states.Leased && p.worker != "" && !found {
			x.sim.failf("%s: the lease of message %d is forgotten: %+v", x.sub.Name, id, p)
		}
	}
}

// LeaseOut implements sinks.Lessor.
func (x *simRunner) LeaseOut(time.Duration) {}

// Relinquish implements sinks.Relinquisher: somebody works on every other delivery.
func (x *simRunner) Relinquish() {
	for _, id := range slices.Sorted(maps.Keys(x.out)) {
		done := x.out[id]
		outcome := sinks.Released()
		if id%2 == 0 {
			x.leaseTo(id, &outcome, 0)
		}
		delete(x.out, id)
		done(outcome)
	}
}

// Cancel implements sinks.Canceller: somebody works on every other delivery, and on all that is leased.
func (l lessorOf) Cancel(messages map[int64]bool) {
	ends := func(id int64) bool {
		waiting, named := messages[id]
		return named && !(waiting && id%2 == 0)
	}
	for i, lane := range l.r.lanes.all {
		if !lane.busy || !slices.ContainsFunc(lane.batch, func(t *task) bool { return ends(t.row.ID) }) || !l.takeBatch(lane) {
			continue
		}
		for j := range lane.batch {
			lane.outcomes[j] = sinks.Released()
		}
		l.sent[i] = false
		l.giveBack(lane)
	}
	for _, token := range slices.Sorted(maps.Keys(l.leases)) {
		if waiting, named := messages[l.leases[token]]; named && !waiting {
			delete(l.leases, token)
			l.settle(token, sinks.Released())
		}
	}
}

// leaseTo makes a lease of the destination's own of what would be one with callbacks.
func (x *simRunner) leaseTo(id int64, outcome *error, draw uint8) {
	kind, after := sinks.Classify(*outcome)
	switch {
	case !x.leasesItself() || kind != sinks.KindLeased && kind != sinks.KindReleased:
		return
	case kind == sinks.KindLeased && draw%3 == 0:
		return // with a callback
	}
	x.tokens++
	x.leases[x.tokens] = id
	*outcome = sinks.LeasedTo("worker", cmp.Or(after, simLease), x.tokens, nil)
}

func (x *simRunner) leasesItself() bool { return x.r.lanes.leasing.to != nil }

// settleLease lets the destination say what came of one of its leases.
func (x *simRunner) settleLease(which, draw uint8) bool {
	if x.r == nil || len(x.leases) == 0 {
		return false
	}
	tokens := slices.Sorted(maps.Keys(x.leases))
	token := tokens[int(which)%len(tokens)]
	id := x.leases[token]
	var outcome error
	switch draw % 8 {
	case 3:
		outcome = sinks.Failed(errSim, time.Duration(draw%2)*time.Second)
	case 4:
		outcome = sinks.Lost(errSim)
	case 5:
		outcome = sinks.Snoozed(time.Second)
	case 6:
		outcome = sinks.Released()
	case 7:
		outcome = sinks.LeasedTo("worker", simLease, token, nil)
	}
	if draw == 31 {
		outcome = sinks.Permanent(errSim)
	}
	x.sim.notef("%s: of the lease of message %d: %v", x.sub.Name, id, outcome)
	if outcome == nil {
		x.accepted[id] = true
		x.ever[id] = x.ever[id] || !x.stale
	}
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindLeased {
		delete(x.leases, token)
	}
	x.settle(token, outcome)
	if kind, _ := sinks.Classify(outcome); draw&16 > 0 && kind != sinks.KindLeased {
		x.step() // what is said once more, and too late, counts for nothing
		x.settle(token, sinks.Permanent(errSim))
	}
	return true
}

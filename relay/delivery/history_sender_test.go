package delivery

import (
	"context"

	"github.com/postrider/postrider/sinks"
)

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
	if x.r.Lanes.sending.to != nil {
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
	if x.r.Lanes.sending.to == nil {
		x.r.finish(l)
		return
	}
	id := l.batch[0].row.ID
	done := x.out[id]
	delete(x.out, id)
	done(l.outcomes[0])
}

package delivery

import (
	"maps"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// aheadOfHorizon is a runner that reads scheduled deliveries just now, the first of which is asked for.
func aheadOfHorizon(t *testing.T) (r *Runner, read []store.Parked) {
	tr := newTrial(subscription.Settings{Ordering: subscription.OrderByKey, OnDead: subscription.DeadSkips, MaxAttempts: 3, Lanes: 1, Batch: 1, MaxParked: 10, MaxScheduled: 10}, &destination{})
	r = tr.x.r
	r.retries.scheduled = scheduledAhead{horizon: tr.server.now, unseen: 2, loading: true}
	for id := range int64(2) {
		read = append(read, store.Parked{ID: id + 101, Born: 7, State: states.Scheduled, Due: tr.server.now.Add(time.Hour)})
	}
	asked := store.Cancel{Message: r.Env.entries(read)[0].ident()}
	if unknown := r.Cancel([]store.Cancel{asked}); len(unknown) != 1 || unknown[0] != 101 {
		t.Fatalf("%v are looked for in the table, want 101", unknown)
	}
	return r, read
}

// What is read beyond the horizon while somebody asks for it to be cancelled is cancelled, whoever comes first.
func TestCancelOfWhatIsBeingRead(t *testing.T) {
	r, read := aheadOfHorizon(t)
	r.takeInScheduled(r.Env.entries(read), false)
	r.CancelScheduled(read[:1])
	for i, want := range []string{states.Cancelled, states.Scheduled} {
		if e := r.retries.parked.byID[r.Env.entries(read)[i].ident()]; e == nil || e.state != want {
			t.Errorf("%d is %+v, want %s", read[i].ID, e, want)
		}
	}
}

// What was cancelled, and saved, while an older state of it was being read is not taken for scheduled.
func TestCancelledIsNotReadAgain(t *testing.T) {
	r, read := aheadOfHorizon(t)
	r.CancelScheduled(read[:1])
	ops := maps.Clone(r.retries.parked.ops)
	for m, op := range ops {
		op.fix()
		r.cancels.saved(m, op)
	}
	clear(r.retries.parked.ops)
	r.retries.acknowledge(0, ops)
	r.takeInScheduled(r.Env.entries(read), false)
	cancelled, other := r.Env.entries(read)[0].ident(), r.Env.entries(read)[1].ident()
	if len(ops) != 1 || ops[cancelled] == nil || r.retries.parked.knows(cancelled) || !r.retries.parked.knows(other) {
		t.Errorf("after changes %v, %d is known: %v, %d: %v", ops, cancelled.ID, r.retries.parked.knows(cancelled), other.ID, r.retries.parked.knows(other))
	}
}

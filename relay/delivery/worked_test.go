package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// workedOn delivers one message of a key, and one behind it, to a destination that says these outcomes of the first in turn, then
// accepts it. It returns when each attempt of the first came, and what its row was in between.
func workedOn(t *testing.T, settings subscription.Settings, says ...error) (at []time.Time, attempts []int) {
	t.Helper()
	dest := &destination{}
	tr := newTrial(settings, dest)
	ids := tr.publish("k", "k")
	tr.x.says = func(batch []*task, outcomes []error) {
		for i, task := range batch {
			if task.ident().ID == ids[0] && len(at) < len(says) {
				at, attempts = append(at, tr.server.now), append(attempts, task.attempts)
				outcomes[i] = says[len(at)-1]
				continue
			}
			if task.ident().ID == ids[1] && dest.got[ids[0]].IsZero() {
				t.Error("the second message of the key went before the first")
			}
			if task.ident().ID == ids[0] {
				at, attempts = append(at, tr.server.now), append(attempts, task.attempts)
			}
			dest.got[task.ident().ID] = tr.server.now
		}
	}
	if !tr.run(time.Hour, tr.delivered(ids)) {
		t.Fatal("not delivered within an hour")
	}
	if tr.x.r.breaker.open {
		t.Errorf("deliveries stand still: %s", tr.x.r.breaker.reason)
	}
	return at, attempts
}

// TestWorkedOn: what workers say of a message costs an attempt or none, and says nothing of the destination.
func TestWorkedOn(t *testing.T) {
	settings := subscription.Settings{Ordering: subscription.OrderByKey, OnDead: subscription.DeadSkips, MaxAttempts: 100, Lanes: 4, Batch: 1, MaxParked: 1000,
		MaxScheduled: 1000, BackoffInitial: subscription.Duration(10 * time.Second), BackoffMax: subscription.Duration(10 * time.Second)}
	for _, c := range []struct {
		name     string
		say      error
		counts   bool
		from, to time.Duration // between attempts
	}{
		{"released", sinks.Released(), false, 0, time.Second},
		{"snoozed", sinks.Snoozed(time.Minute), false, time.Minute, 63 * time.Second},
		{"failed", sinks.Failed(errSim, 0), true, 5 * time.Second, 15 * time.Second},
		{"failed, and knows when to come back", sinks.Failed(errSim, 3*time.Second), true, 3 * time.Second, 6 * time.Second},
		{"lost", sinks.Lost(errSim), true, 0, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			says := make([]error, 2*TripAfter) // so many failures in a row would be a destination that is down
			for i := range says {
				says[i] = c.say
			}
			at, attempts := workedOn(t, settings, says...)
			for i := 1; i < len(at); i++ {
				if wait := at[i].Sub(at[i-1]); wait < c.from || wait > c.to {
					t.Errorf("attempt %d came after %s, want %s to %s", i+1, wait, c.from, c.to)
				}
				if want := map[bool]int{true: i, false: 0}[c.counts]; attempts[i] != want {
					t.Errorf("before attempt %d, %d count, want %d", i+1, attempts[i], want)
				}
			}
		})
	}
}

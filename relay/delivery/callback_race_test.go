package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// A callback may be found between the commit of the save that recorded its delivery and the answer of that save. It must wait: the
// answer says nothing about the retry that the callback causes, and whoever took the retry for stored would find its row still
// failed, take it for discarded, and forget it until the next start.
func TestCallbackBetweenASaveAndItsAnswer(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := subscription.Settings{Ordering: subscription.OrderByKey, MaxAttempts: 3, BackoffInitial: subscription.Duration(time.Second), BackoffMax: subscription.Duration(time.Second)}
	r := New(Environment{Sub: subscription.Subscription{Settings: s}, Save: func() {}, Metrics: simRunnerMetrics}, &Filter{}, sinks.Limits{})
	e := &entry{id: 1, state: states.Scheduled, stored: states.Scheduled} // its row was there before this attempt
	r.retries.parked.add(e)
	r.retries.parked.change(e, states.Leased, time.Time{}, "")
	failed := store.CalledBack{Message: snapshot.Ident{ID: 1}, State: "failed", Due: &now}
	if r.CalledBack(failed, now) {
		t.Error("the callback is concluded before its delivery is saved")
	}
	item := r.Collect(r.Part(), now, true)
	if item == nil || len(item.Ops) != 1 {
		t.Fatal("nothing to save")
	}
	if r.CalledBack(failed, now) {
		t.Error("the callback is concluded before the save has been answered")
	}
	r.SavedNow(item)
	if !r.CalledBack(failed, now) || e.state != states.Retrying {
		t.Errorf("after the save the callback is not concluded: %+v", e)
	}
	if e.durable() {
		t.Error("the retry counts as stored, but its row says that the delivery failed")
	}
	r.SavedNow(r.Collect(r.Part(), now, true))
	if !e.durable() {
		t.Error("the retry is saved and does not count as stored")
	}
}

// A worker may say what came of its lease between the beginning of the save that records the lease and the answer of that save. If its job is
// to be tried again at once it must wait: whoever looked for the row meanwhile would find it leased, take it for discarded, and let its key go on
// without it.
func TestLeaseThatEndsWhileItIsSaved(t *testing.T) {
	for _, was := range []string{states.Held, states.Retrying, states.Scheduled} {
		t.Run(was, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			s := subscription.Settings{Ordering: subscription.OrderByKey, MaxAttempts: 3, BackoffInitial: subscription.Duration(time.Second), BackoffMax: subscription.Duration(time.Second)}
			r := New(Environment{Sub: subscription.Subscription{Settings: s}, Save: func() {}, Metrics: simRunnerMetrics}, &Filter{}, sinks.Limits{})
			q := &r.retries
			e := &entry{id: 1, keyClass: keyClass{key: "k"}, state: was, stored: was, busy: true} // it is out
			q.parked.add(e)
			e.loan, e.busy = loan{token: 7, worker: "w", lease: time.Minute}, false
			q.parked.change(e, states.Leased, time.Time{}, "")
			item := r.Collect(r.Part(), now, true)
			r.endLease(leaseEnd{7, sinks.Lost(errSim)}, now) // it comes again at once
			if e.state != states.Retrying || e.due.After(now) {
				t.Fatalf("after the lease: %+v", e)
			}
			if next := q.parked.nextDue(now); next != nil || q.parked.head(e.keyed()) != e {
				t.Error("it is looked for while its row says that it is leased, or may say so")
			}
			if q.unblock(e.keyed()); len(q.toLoad) > 0 {
				t.Error("it is loaded while its row may be leased")
			}
			r.SavedNow(item)
			if next := q.parked.nextDue(now); next != nil {
				t.Error("it is looked for while its row is leased")
			}
			r.SavedNow(r.Collect(r.Part(), now, true))
			if next := q.parked.nextDue(now); next != e {
				t.Error("it is saved, and does not come again")
			}
		})
	}
}

package delivery

import (
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

func TestBreakerTrips(t *testing.T) {
	var b breaker
	now := time.Unix(1_800_000_000, 0)
	for range 50 { // each time anew, from the shortest wait
		b.open = false
		b.trip(now, failedDelivery{sinks.KindUnavailable, errors.New("refused"), 0}, 0)
		wait := b.rounds.next.Sub(now)
		if !b.open || b.reason != "refused" || wait < probeFirst/2 || wait > 2*probeFirst {
			t.Fatalf("open %t because of %q, next probe in %s", b.open, b.reason, wait)
		}
		b.rounds.waits.NextBackOff()
	}
	b.trip(now, failedDelivery{sinks.KindUnavailable, errors.New("busy"), time.Minute}, 0) // while it is open, the destination asks for more time
	if got := b.rounds.next.Sub(now); got != time.Minute || b.reason != "refused" {
		t.Errorf("next probe in %s because of %q", got, b.reason)
	}
	b.trip(now, failedDelivery{sinks.KindUnavailable, errors.New("busy"), time.Second}, 0)
	if got := b.rounds.next.Sub(now); got != time.Minute {
		t.Errorf("a shorter wait has replaced the longer: %s", got)
	}
	b.open = false
	b.trip(now, failedDelivery{sinks.KindUnavailable, errors.New("busy"), time.Hour}, 0)
	if got := b.rounds.next.Sub(now); got != time.Hour {
		t.Errorf("the destination asked for an hour, next probe in %s", got)
	}
	for range 30 {
		if wait := b.rounds.waits.NextBackOff(); wait > 2*probeMost || wait <= 0 {
			t.Errorf("wait between probes %s", wait)
		}
	}
}

func TestWithdraw(t *testing.T) {
	r := new(Runner)
	r.lanes.make(nil, 3, 1)
	tasks := []*task{{key: "a"}, {key: "b"}, {}, {key: "a"}}
	for _, x := range tasks[:3] {
		if x.key == "" {
			r.lanes.free.add(x)
			continue
		}
		l := r.lanes.laneOf(x.key)
		l.queue.add(x)
	}
	queued := func() int {
		n := r.lanes.free.n
		for _, l := range r.lanes.all {
			n += l.queue.n
		}
		return n
	}
	r.lanes.withdraw(tasks[3])
	if n := queued(); n != 3 {
		t.Errorf("%d tasks are left after one that is nowhere was withdrawn, want 3", n)
	}
	for i, x := range tasks[:3] {
		if r.lanes.withdraw(x); queued() != 2-i {
			t.Errorf("the task of key %q was not withdrawn", x.key)
		}
	}
}

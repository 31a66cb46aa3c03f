package relay

import (
	"errors"
	"testing"
	"time"
)

func TestBreakerTrips(t *testing.T) {
	var b breaker
	now := time.Unix(1_800_000_000, 0)
	for range 50 { // each time anew, from the shortest wait
		b.open = false
		b.trip(now, 0, errors.New("refused"))
		wait := b.next.Sub(now)
		if !b.open || b.reason != "refused" || wait < probeFirst/2 || wait > 2*probeFirst {
			t.Fatalf("open %t because of %q, next probe in %s", b.open, b.reason, wait)
		}
		b.waits.NextBackOff()
	}
	b.trip(now, time.Minute, errors.New("busy")) // while it is open, the destination asks for more time
	if got := b.next.Sub(now); got != time.Minute || b.reason != "refused" {
		t.Errorf("next probe in %s because of %q", got, b.reason)
	}
	b.trip(now, time.Second, errors.New("busy"))
	if got := b.next.Sub(now); got != time.Minute {
		t.Errorf("a shorter wait has replaced the longer: %s", got)
	}
	b.open = false
	b.trip(now, time.Hour, errors.New("busy"))
	if got := b.next.Sub(now); got != time.Hour {
		t.Errorf("the destination asked for an hour, next probe in %s", got)
	}
	for range 30 {
		if wait := b.waits.NextBackOff(); wait > 2*probeMost || wait <= 0 {
			t.Errorf("wait between probes %s", wait)
		}
	}
}

// The message whose probe failed does not probe again if there is one of another key, and no key's order changes.
func TestBreakerProbesWithAnother(t *testing.T) {
	a1, a2, b1, c1 := &task{key: "a"}, &task{key: "a"}, &task{key: "b"}, &task{key: "c"}
	r := &runner{}
	r.breaker.suspect = a1
	l := &lane{queue: []*task{a1, a2, b1, c1}}
	r.avoidSuspect(l)
	for i, want := range []*task{b1, a1, a2, c1} {
		if l.queue[i] != want {
			t.Errorf("place %d is taken by key %s, want %s", i, l.queue[i].key, want.key)
		}
	}
	only := &lane{queue: []*task{a1, a2}}
	r.avoidSuspect(only)
	if only.queue[0] != a1 || only.queue[1] != a2 {
		t.Error("the order within a key has changed")
	}

	f1, f2 := &task{}, &task{}
	r.breaker.suspect, r.free = f1, []*task{f1, f2}
	r.avoidSuspect(&lane{})
	if r.free[0] != f2 || r.free[1] != f1 {
		t.Error("a message without a key was not put behind another")
	}
}

func TestWithdraw(t *testing.T) {
	r := &runner{lanes: newLanes(3, 1)}
	tasks := []*task{{key: "a"}, {key: "b"}, {}, {key: "a"}}
	for _, x := range tasks[:3] {
		if x.key == "" {
			r.free = append(r.free, x)
			continue
		}
		l := r.laneOf(x.key)
		l.queue = append(l.queue, x)
	}
	if r.withdraw(tasks[3]) {
		t.Error("a task that is nowhere was withdrawn")
	}
	for _, x := range tasks[:3] {
		if !r.withdraw(x) || r.withdraw(x) {
			t.Errorf("the task of key %q was not withdrawn once", x.key)
		}
	}
}

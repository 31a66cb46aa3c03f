package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// down answers with outcome to everything while the switch is on.
func down(on *atomic.Bool, outcome error) func(context.Context, sinks.Delivery) error {
	return func(context.Context, sinks.Delivery) error {
		if on.Load() {
			return outcome
		}
		return nil
	}
}

func TestOutageParksNothing(t *testing.T) {
	s := newScene(t)
	a, b := s.cast("down", "{>}", "{}"), s.cast("up", "{>}", "{}")
	var on atomic.Bool
	on.Store(true)
	a.plays(down(&on, sinks.Unavailable(errors.New("connection refused"), 0)))
	s.play()
	ids := s.bulk("x", 500, 10)
	for range 20 {
		ids = append(ids, s.bulk("x", 50, 10)...)
	}
	b.got(t, ids)
	eventually(t, "the view shows the trouble", func() bool {
		return scalar[string](s.bench, "SELECT coalesce(trouble, '') FROM postrider.subscription_status WHERE name = 'down'") ==
			"destination is down: connection refused"
	})
	lag := scalar[int](s.bench, "SELECT lag_messages FROM postrider.subscription_status WHERE name = 'down'")
	if lag != len(ids) {
		t.Errorf("lag %d, want %d", lag, len(ids))
	}
	if n := s.parkedIn("down", states.Retrying, states.Held, states.Dead); n > 0 {
		t.Errorf("%d messages are parked though the destination was down", n)
	}
	probes := len(a.all())
	if most := 4*64 + 10; probes > most { // what was under way at first, then one by one
		t.Errorf("%d deliveries to a destination that is down, want at most %d", probes, most)
	}
	on.Store(false)
	a.got(t, ids)
	a.exactly(t, ids)
	for key := range 10 {
		if got := a.accepted("key-" + string(rune('0'+key))); !slices.IsSorted(got) {
			t.Errorf("key %d was delivered out of order", key)
		}
	}
	s.settledAll("down")
	eventually(t, "the view shows no trouble", func() bool {
		return scalar[bool](s.bench, "SELECT trouble IS NULL AND lag_messages = 0 FROM postrider.subscription_status WHERE name = 'down'")
	})
}

// An endpoint that answers each message with an error is as good as down: its messages do not fill the parked table.
func TestEndpointThatFailsEverything(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`)
	var on atomic.Bool
	on.Store(true)
	a.plays(down(&on, errors.New("status 500")))
	r := s.play()
	ids := s.bulk("x", 1000, 0)
	eventually(t, "the view shows the trouble", func() bool {
		trouble := scalar[string](s.bench, "SELECT coalesce(trouble, '') FROM postrider.subscription_status WHERE name = 'sub'")
		return strings.Contains(trouble, "in a row failed, the last with: status 500") || strings.Contains(trouble, "down: status 500")
	})
	probed := len(a.all()) + 2
	eventually(t, "it is probed", func() bool { return len(a.all()) >= probed })
	if n, most := s.parkedIn("sub", states.Retrying, states.Held, states.Dead), delivery.TripAfter+4; n > most {
		t.Errorf("%d messages are parked, want at most %d", n, most)
	}
	r.stop()
	s.play()
	on.Store(false)
	a.got(t, ids)
	a.exactly(t, ids)
	s.settledAll("sub")
}

// One message that times out each time cannot hold the others, and is given up in the end.
func TestPoisonMessage(t *testing.T) {
	for name, key := range map[string]string{"with a key": "p", "without a key": ""} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			a := s.cast("sub", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 3}`)
			a.limits = sinks.Limits{Lanes: 2, Batch: 4}
			a.plays(failing("bad", 1000, sinks.Unavailable(errors.New("timeout"), 0)))
			s.play()
			good := s.bulk("good", 100, 5)
			bad := s.Publish("bad", key, `1`)
			good = append(good, s.bulk("good", 100, 5)...)
			a.got(t, good)
			// More traffic, as without another message nothing shows that the fault is the message's own.
			eventually(t, "the poison message is dead", func() bool {
				good = append(good, s.Publish("good", "g", `2`)...)
				return s.status("sub", bad[0]) == "dead"
			})
			a.got(t, good)
			reason := scalar[string](s.bench, "SELECT reason FROM postrider.parked")
			if !strings.Contains(reason, "timeout") {
				t.Errorf("reason %q, want it to name the timeout", reason)
			}
			s.shows("sub", "delivered", good...)
			a.exactly(t, good)
		})
	}
}

func TestGonePauses(t *testing.T) {
	s := newScene(t)
	a, b := s.cast("sub", "{>}", "{}"), s.cast("other", "{>}", "{}")
	var on atomic.Bool
	on.Store(true)
	a.plays(down(&on, sinks.Gone(errors.New("status 410"))))
	s.play()
	ids := s.bulk("x", 300, 10)
	eventually(t, "the subscription is paused with its reason", func() bool {
		return scalar[string](s.bench, "SELECT state || ' ' || coalesce(paused_reason, '') FROM postrider.subscription_status WHERE name = 'sub'") == "paused status 410"
	})
	ids = append(ids, s.bulk("x", 100, 10)...)
	b.got(t, ids)
	eventually(t, "nobody owns the cursor", func() bool {
		return scalar[bool](s.bench, "SELECT owner IS NULL FROM postrider.cursors WHERE subscription = 'sub'")
	})
	s.shows("sub", "pending", ids...)
	on.Store(false)
	s.Exec("SELECT postrider.resume('sub')")
	a.got(t, ids)
	a.exactly(t, ids)
	s.settledAll("sub")
}

// What is parked when the destination goes down stays parked, and goes on with the rest when it is back.
func TestOutageWithParkedMessages(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`)
	var on atomic.Bool
	isDown := down(&on, sinks.Unavailable(errors.New("connection refused"), 0))
	var fails atomic.Bool
	fails.Store(true)
	a.plays(func(ctx context.Context, d sinks.Delivery) error {
		if err := isDown(ctx, d); err != nil || d.Topic != "bad" || !fails.Load() {
			return err
		}
		return errScene
	})
	s.play()
	bad := s.Publish("bad", "k", `1`)
	s.shows("sub", "retrying", bad...)
	held := s.Publish("good", "k", `2`, `3`)
	s.shows("sub", "held", held...)
	on.Store(true)
	eventually(t, "the retries open the breaker", func() bool {
		return scalar[bool](s.bench, "SELECT trouble IS NOT NULL FROM postrider.subscription_status")
	})
	more := append(s.Publish("good", "k", `4`), s.Publish("good", "l", `5`)...)
	fails.Store(false)
	on.Store(false)
	a.got(t, slices.Concat(bad, held, more))
	if want, got := slices.Concat(bad, held, more[:1]), a.accepted("k"); !slices.Equal(got, want) {
		t.Errorf("delivered %v of the key, want %v", got, want)
	}
	s.settledAll("sub")
	a.exactly(t, s.stored())
	eventually(t, "the view shows no trouble", func() bool {
		return scalar[bool](s.bench, "SELECT trouble IS NULL FROM postrider.subscription_status")
	})
}

package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

func TestBatchesHoldOneMessagePerKey(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	a.limits = sinks.Limits{Lanes: 3, Batch: 50}
	ids := s.bulk("x", 3000, 7)
	free := s.bulk("x", 1000, 0)
	s.play()
	a.got(t, append(ids, free...))
	for k := range 7 {
		if got := a.accepted(fmt.Sprintf("key-%d", k)); !slices.IsSorted(got) {
			t.Errorf("messages of key %d were delivered out of order", k)
		}
	}
	a.exactly(t, s.stored())
	if a.largest < 8 || a.largest > 50 {
		t.Errorf("the largest batch held %d messages, want more than 7 and at most 50", a.largest)
	}
	if a.busiest > 3 {
		t.Errorf("%d deliveries were under way at once, want at most 3", a.busiest)
	}
}

func TestNoOrdering(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"ordering": "none", "backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`)
	a.plays(failing("bad", 1000, errScene))
	s.play()
	bad := s.Publish("bad", "k", `1`)
	good := s.Publish("good", "k", `2`, `3`)
	a.got(t, good)
	if n := s.parkedIn("sub", states.Held); n != 0 {
		t.Errorf("%d messages are held, though nothing is ordered", n)
	}
	a.plays(nil)
	a.got(t, bad)
	if n := a.again(); n > 0 {
		t.Errorf("%d messages were delivered twice", n)
	}
}

// A failing message stops the rest, of which there is more than the lanes take in; what is scheduled meanwhile waits as well.
func TestStrictOrder(t *testing.T) {
	for name, c := range map[string]struct {
		outcome error
		fails   int // attempts
		in      int // deliveries
	}{
		"retryable":   {errScene, 3, 4},
		"unavailable": {sinks.Unavailable(errScene, 0), 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			a := s.cast("sub", "{>}", `{"ordering": "strict", "backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`)
			a.plays(failing("bad", c.fails, c.outcome))
			first := s.Publish("good", "a", `1`)
			bad := s.Publish("bad", "b", `2`)
			wait := map[string]string{"retryable": "50 ms", "unavailable": "2 s"}[name] // it may probe whether a destination is back
			scheduled := scalar[int64](s.bench, `SELECT postrider.enqueue('good', '3', NULL, NULL, clock_timestamp() + $1::text::interval)`, wait)
			rest := s.bulk("good", 300, 3)
			s.play()
			a.got(t, s.stored())
			unscheduled := slices.DeleteFunc(a.accepted("*"), func(id int64) bool { return id == scheduled })
			if want := slices.Concat(first, bad, rest); !slices.Equal(unscheduled, want) {
				t.Errorf("delivered %v, want ascending ids from %d", unscheduled[:min(10, len(unscheduled))], want[0])
			}
			if i, j := slices.Index(a.accepted("*"), scheduled), slices.Index(a.accepted("*"), bad[0]); i < j {
				t.Error("the scheduled message was delivered while another one stopped the subscription")
			}
			if n := len(a.of(bad[0])); n != c.in {
				t.Errorf("%d deliveries of the failing message, want %d", n, c.in)
			}
			s.settledAll("sub")
			a.exactly(t, s.stored())
			if a.busiest > 1 || a.largest > 1 {
				t.Errorf("%d deliveries at once, %d messages in one: want one each", a.busiest, a.largest)
			}
		})
	}
}

// A message fails on its own first, so that it is parked; then the destination goes down and comes back.
func TestStrictOrderThroughOutage(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"ordering": "strict", "backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		switch {
		case d.Topic == "bad" && d.Attempt == 1:
			return errScene
		case d.Topic == "bad" && d.Attempt < 4:
			return sinks.Unavailable(errScene, 0)
		}
		return nil
	})
	bad := s.Publish("bad", "", `1`)
	rest := s.bulk("good", 200, 0)
	s.play()
	a.got(t, append(bad, rest...))
	if got := a.accepted("*"); !slices.IsSorted(got) {
		t.Error("delivered out of order")
	}
	if n := s.parkedIn("sub", states.Held); n != 0 {
		t.Errorf("%d rows are held", n)
	}
}

func TestStrictHoldsBehindDeadLetter(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"ordering": "strict", "on_dead": "hold"}`)
	a.plays(failing("bad", 1, sinks.Permanent(errScene)))
	r := s.play()
	bad := s.Publish("bad", "", `1`)
	rest := s.bulk("good", 100, 0)
	s.shows("sub", "dead", bad...)
	r.stop()
	s.play()
	s.shows("sub", "pending", rest...)
	if got := a.accepted("*"); len(got) > 0 {
		t.Fatalf("%d messages passed a dead letter that holds", len(got))
	}
	a.plays(nil)
	s.Exec("SELECT postrider.redrive('sub')")
	a.got(t, append(bad, rest...))
	if got := a.accepted("*"); !slices.IsSorted(got) {
		t.Error("delivered out of order")
	}
}

// chaotic answers at random.
func chaotic(seed uint64) func(context.Context, sinks.Delivery) error {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(context.Context, sinks.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		switch p := rng.Float64(); {
		case p < 0.06:
			return errScene
		case p < 0.0605:
			return sinks.Unavailable(errScene, 0)
		case p < 0.07:
			return sinks.Permanent(errScene)
		}
		return nil
	}
}

// Producers write to twenty keys, each key from one producer, with random outcomes, while relays stop, start and lose all that they
// have in memory. Per key nothing is ever swapped; nothing is lost.
func TestKeyOrderUnderChaos(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_initial": "5ms", "backoff_max": "30ms", "max_attempts": 1000}`)
	a.limits = sinks.Limits{Lanes: 5, Batch: 8}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a.plays(chaotic(seed))
	r := s.play()
	var producers sync.WaitGroup
	const each = 150
	for p := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(p+2)))
		producers.Go(func() {
			for n := range each {
				err := pgx.BeginFunc(t.Context(), s.App, func(tx pgx.Tx) error {
					key := fmt.Sprintf("key-%d", p*5+rng.IntN(5))
					for range 1 + rng.IntN(3) {
						if _, err := tx.Exec(t.Context(), "SELECT postrider.enqueue('t', to_jsonb($1::int), $2)", n, key); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 6 {
		least := len(a.all()) + 100
		eventually(t, "some more is delivered", func() bool { return len(a.all()) >= least || i > 3 })
		if i%2 == 0 {
			r.stop()
			r = s.play()
			continue
		}
		s.crash()
	}
	producers.Wait()
	eventually(t, "nothing is left", func() bool {
		return scalar[int](s.bench, `SELECT count(*) FROM postrider.deliveries WHERE status NOT IN ('delivered', 'dead')`) == 0
	})
	r.stop()
	ids := s.stored()
	got := make(map[int64]bool)
	last := make(map[string]int64)
	for _, x := range a.all() {
		if x.err != nil {
			continue
		}
		run := fmt.Sprint(x.run, x.Key)
		if x.ID <= last[run] {
			t.Errorf("run %d delivered %d of %s after %d", x.run, x.ID, x.Key, last[run])
		}
		last[run] = x.ID
		if got[x.ID] {
			continue
		}
		got[x.ID] = true
		if x.ID < last[x.Key] {
			t.Errorf("%d of %s was first delivered after %d", x.ID, x.Key, last[x.Key])
		}
		last[x.Key] = x.ID
	}
	for _, id := range ids {
		if !got[id] && s.status("sub", id) != "dead" {
			t.Errorf("message %d is neither delivered nor dead", id)
		}
	}
	t.Logf("%d messages, %d attempts, %d delivered again, %d dead", len(ids), len(a.all()), a.again(), s.parkedIn("sub", states.Dead))
	a.wellUsed(t)
}

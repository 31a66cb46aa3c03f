package relay

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// Five times a relay is stopped in order and another started, in the middle of traffic, with retries, held and scheduled messages
// pending: nothing is lost and nothing comes twice.
func TestCleanStopsCauseNoDuplicates(t *testing.T) {
	for _, follow := range []Follow{FollowStream, FollowTimer} {
		t.Run(string(follow), func(t *testing.T) {
			s := newScene(t)
			names := []string{"keyed", "unordered", "strict"}
			s.cast("keyed", "{>}", `{"backoff_initial": "10ms", "backoff_max": "100ms"}`).plays(failing("bad", 3, errScene))
			s.cast("unordered", "{>}", `{"ordering": "none", "backoff_initial": "10ms", "backoff_max": "100ms"}`).plays(failing("bad", 2, errScene))
			s.cast("strict", "{>}", `{"ordering": "strict", "backoff_initial": "1ms", "backoff_max": "2ms"}`).plays(failing("bad", 1, errScene))
			var producers sync.WaitGroup
			ended := make(chan struct{})
			producers.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
					}
					_, err := s.App.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, key, payload, deliver_at)
						SELECT CASE WHEN g % 10 = 0 THEN 'bad' ELSE 'good' END, CASE WHEN g % 3 > 0 THEN 'key-' || g % 13 END, '1',
						       CASE WHEN g % 15 = 7 THEN now() + interval '200 ms' END
						FROM generate_series(1, 20) g`)
					if err != nil {
						t.Error(err)
						return
					}
					async.Sleep(t.Context(), 20*time.Millisecond) // as applications do
				}
			})
			for range 5 {
				r := s.play(func(c *Config) { c.Follow = follow })
				least := s.actor("keyed").count() + 100
				eventually(t, "some messages are delivered", func() bool { return s.actor("keyed").count() >= least })
				r.stop()
			}
			close(ended)
			producers.Wait()
			s.play(func(c *Config) { c.Follow = follow })
			ids := s.stored()
			for _, name := range names {
				s.actor(name).got(t, ids)
				s.settledAll(name)
				a := s.actor(name)
				if n := a.again(); n > 0 {
					t.Errorf("%s: %d of %d messages came twice", name, n, len(ids))
				}
			}
			s.actor("keyed").wellUsed(t)
			t.Logf("%d messages", len(ids))
		})
	}
}

// A delivery that hangs is given up when the time to drain is over. It alone comes again.
func TestStopWithHangingDelivery(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"batch": 1}`)
	let := make(chan struct{})
	a.plays(hanging("slow", let))
	r := s.play(func(c *Config) { c.DrainTimeout = 300 * time.Millisecond })
	before := s.bulk("good", 200, 0)
	slow := s.Publish("slow", "s", `1`)
	after := s.bulk("good", 200, 0)
	a.got(t, slices.Concat(before, after))
	begun := time.Now()
	r.stop()
	if took := time.Since(begun); took < 300*time.Millisecond { // and it does not wait for the delivery, which would never end
		t.Errorf("the stop took %s, the time to drain is 300ms", took)
	}
	s.shows("sub", "pending", slow...)
	s.shows("sub", "delivered", slices.Concat(before, after)...)
	close(let)
	s.play()
	a.got(t, slow)
	a.exactly(t, slices.Concat(before, slow, after))
}

// What a batch's destination has confirmed before the rest of the batch was given up does not come again.
func TestStopWithHangingBatch(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"lanes": 1}`)
	let := make(chan struct{})
	a.plays(hanging("slow", let))
	ids := slices.Concat(s.bulk("good", 30, 0), s.Publish("slow", "", `1`), s.bulk("good", 100, 0))
	r := s.play(func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	eventually(t, "some of the batch is accepted", func() bool { return a.count() >= 30 })
	r.stop()
	close(let)
	s.play()
	a.got(t, ids)
	a.exactly(t, ids)
}

// What becomes of parked messages is saved also while the pass that a cursor was saved in cannot go on.
func TestRetryBeforeThePassGoesOn(t *testing.T) {
	s := newScene(t)
	ids := slices.Concat(s.Publish("bad", "", `1`), s.bulk("good", 100, 0), s.Publish("slow", "", `2`), s.bulk("good", 100, 0))
	a := s.withStart("sub", "{>}", `{"lanes": 1, "batch": 1, "backoff_initial": "1h"}`, "earliest")
	let := make(chan struct{})
	a.plays(func(ctx context.Context, d sinks.Delivery) error {
		if d.Topic == "bad" && d.Attempt == 1 {
			return sinks.Retryable(errScene, 0)
		}
		return hanging("slow", let)(ctx, d)
	})
	r := s.play(func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	eventually(t, "the pass is under way", func() bool { return a.count() == 100 })
	r.stop()
	close(let)
	if !scalar[bool](s.bench, "SELECT target IS NOT NULL FROM postrider.cursors") {
		t.Fatal("the cursor is not in the middle of a pass")
	}
	s.Exec("UPDATE postrider.parked SET due = now()")
	err := pgx.BeginFunc(t.Context(), s.Admin, func(tx pgx.Tx) error { // nobody reads the outbox
		if _, err := tx.Exec(t.Context(), "LOCK TABLE postrider.outbox IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		r = s.play()
		a.got(t, ids[:1])
		eventually(t, "the parked row is gone", func() bool { return s.parkedIn("sub", states.Retrying) == 0 })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.got(t, ids)
	a.exactly(t, ids)
	s.settledAll("sub")
}

// A stop waits for a delivery that ends in time.
func TestStopWaitsForDeliveries(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	var begun atomic.Bool
	let := make(chan struct{})
	a.plays(func(ctx context.Context, d sinks.Delivery) error {
		begun.Store(true)
		return hanging("slow", let)(ctx, d)
	})
	r := s.play()
	ids := s.Publish("slow", "", `1`)
	eventually(t, "the delivery has begun", begun.Load)
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	close(let)
	<-stopped
	s.play()
	s.settledAll("sub")
	a.exactly(t, ids)
}

// One delivery hangs while more others are settled than are remembered: intake stops at the bound and goes on afterwards. A restart
// in between brings no flood of duplicates.
func TestHangingDeliveryAmongFastOnes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "goes on", true: "restart"}[restart], func(t *testing.T) {
			s := newScene(t)
			a := s.cast("sub", "{>}", "{}")
			a.limits = sinks.Limits{Lanes: 4, Batch: 100}
			let := make(chan struct{})
			a.plays(hanging("slow", let))
			r := s.play(func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
			slow := s.Publish("slow", "s", `1`)
			ids := slices.Clone(slow)
			settled := func() int { return len(a.accepted("*")) }
			for range 15 { // in pieces: a large transaction would be left to the table
				ids = append(ids, s.bulk("good", 1000, 0)...)
			}
			eventually(t, "intake stops at the bound", func() bool { return settled() >= delivery.MaxDone })
			if n, most := settled(), delivery.MaxDone+2*4*100+100; n > most {
				t.Errorf("%d messages were delivered past one that hangs, want at most %d", n, most)
			}
			if restart {
				r.stop()
				close(let)
				s.play()
			} else {
				close(let)
			}
			a.got(t, ids)
			a.exactly(t, ids)
			s.settledAll("sub")
		})
	}
}

// Live traffic does not wait for saves, however rare they are.
func TestIntakeDoesNotWaitForSaves(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	a.limits = sinks.Limits{Lanes: 4, Batch: 500}
	s.play(func(c *Config) { c.SaveInterval = time.Hour })
	ids := s.Publish("first", "", `1`)
	a.got(t, ids)
	for range 25 {
		more := s.bulk("good", 1000, 0)
		ids = append(ids, more...)
		a.got(t, more) // one piece after the other: the queue never overflows
	}
	a.exactly(t, ids)
}

package relay

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

func TestDefaultsOfAKindOfDestination(t *testing.T) {
	c := &Config{Defaults: func(s *subscription.Subscription) {
		if s.Sink == "special:" && s.Settings.BackoffInitial == 0 {
			s.Settings.BackoffSchedule = []subscription.Duration{subscription.Duration(time.Minute)}
		}
	}}
	for _, k := range []struct {
		sink, settings string
		attempts       int
	}{{"special:", `{}`, 2}, {"other:", `{}`, 20}, {"special:", `{"backoff_initial": "1s"}`, 20}, {"special:", `{"max_attempts": 5}`, 5}} {
		s := subscription.Subscription{Sink: k.sink}
		if err := c.settle(&s, []byte(k.settings)); err != nil || s.Settings.MaxAttempts != k.attempts {
			t.Errorf("%s with %s: %d attempts, %v, want %d", k.sink, k.settings, s.Settings.MaxAttempts, err, k.attempts)
		}
	}
	if err := c.settle(&subscription.Subscription{}, []byte(`{"x": 1}`)); err == nil {
		t.Error("an unknown setting is no error")
	}
}

// A message fails as often as the schedule has room for, and is dead then.
func TestScheduleEndsInADeadLetter(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_schedule": ["10ms", "30ms"]}`)
	a.plays(failing("bad", 1000, errScene))
	s.play()
	bad := s.Publish("bad", "", `1`)
	good := s.Publish("good", "", `2`)
	s.shows("sub", "dead", bad...)
	tries := a.of(bad[0])
	if len(tries) != 3 || tries[1].at.Sub(tries[0].at) < 8*time.Millisecond || tries[2].at.Sub(tries[1].at) < 24*time.Millisecond {
		t.Errorf("%d attempts, want 3 with the schedule's waits between them", len(tries))
	}
	a.got(t, good)
}

// What an outage did to a message does not use up its attempts: nothing is dead because the destination was down.
func TestLongOutageKillsNoMessage(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_schedule": ["10ms"]}`)
	var on atomic.Bool
	on.Store(true)
	a.plays(down(&on, sinks.Unavailable(errors.New("connection refused"), 0)))
	s.play()
	ids := slices.Concat(s.Publish("x", "a", `1`), s.Publish("x", "b", `2`))
	eventually(t, "each of them was a probe more often than it has attempts", func() bool {
		return len(a.of(ids[0])) > 2 && len(a.of(ids[1])) > 2
	})
	on.Store(false)
	a.got(t, ids)
	s.settledAll("sub")
	a.exactly(t, ids)
}

// A retry that is told to leave the destination alone for a while speaks for all messages, also when others were accepted
// meanwhile.
func TestRetryThatAsksForARest(t *testing.T) {
	const rest = 1500 * time.Millisecond
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	begun, accepted := make(chan struct{}), make(chan struct{}, 100)
	var asked atomic.Pointer[time.Time]
	a.plays(func(ctx context.Context, d sinks.Delivery) error {
		switch {
		case d.Topic == "good":
			accepted <- struct{}{}
		case d.Attempt == 1:
			return errScene
		case d.Attempt == 2:
			close(begun)
			for range 2 { // the second of a key goes when the first is counted
				select {
				case <-accepted:
				case <-ctx.Done():
				}
			}
			asked.Store(new(time.Now()))
			return sinks.Unavailable(errors.New("busy"), rest)
		}
		return nil
	})
	s.play()
	bad := s.Publish("bad", "b", `1`)
	<-begun
	good := s.Publish("good", "g", `2`, `2`)
	eventually(t, "the retry asks for a rest", func() bool { return asked.Load() != nil })
	more := s.Publish("good", "g", `3`)
	a.got(t, slices.Concat(bad, good, more))
	for _, x := range append(a.of(more[0]), a.of(bad[0])[2]) {
		// Deliveries may have been under way already when the outcome was looked at.
		if d := x.at.Sub(*asked.Load()); d < rest-100*time.Millisecond {
			t.Errorf("message %d came %s after the destination had asked for a rest of %s", x.ID, d, rest)
		}
	}
}

package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

func TestBackoffSchedule(t *testing.T) {
	s, err := subscription.ParseSettings([]byte(`{"backoff_schedule": ["5s", "5m", "30m"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.MaxAttempts != 4 {
		t.Errorf("%d attempts, want one more than the schedule has waits", s.MaxAttempts)
	}
	for attempts, want := range map[int]time.Duration{1: 5 * time.Second, 2: 5 * time.Minute, 3: 30 * time.Minute, 4: 30 * time.Minute, 1000: 30 * time.Minute} {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range 300 {
			got := s.Backoff(attempts)
			low, high = min(low, got), max(high, got)
		}
		if low < want*8/10 || low > want*85/100 || high > want*12/10 || high < want*115/100 {
			t.Errorf("after %d attempts from %s to %s, want about %s with a jitter of a fifth", attempts, low, high, want)
		}
	}
	if s, err := subscription.ParseSettings([]byte(`{"backoff_schedule": ["1s"], "max_attempts": 7}`)); err != nil || s.MaxAttempts != 7 || s.Backoff(6) > 2*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := subscription.ParseSettings([]byte(`{"backoff_initial": "2s"}`)); err != nil || s.MaxAttempts != 20 || s.Backoff(1) > 3*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestSettingsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{"backoff_schedule": ["1s"], "backoff_max": "1h"}`: "backoff_schedule [1s]: excludes backoff_initial and backoff_max",
		`{"backoff_schedule": ["-1s"]}`:                     "backoff_schedule [-1s]: each wait must be from 0s",
		`{"backoff_schedule": ["9000h"]}`:                   "each wait must be from 0s to 8784h0m0s",
		`{"backoff_schedule": ["soon"]}`:                    `duration "soon": must be a number with a unit`,
		`{"linger": "-1s"}`:                                 "linger -1s: must be from 0s to 10m0s",
		`{"linger": "1h"}`:                                  "linger 1h0m0s: must be from 0s to 10m0s",
		`{"options": [1]}`:                                  "options: must be a JSON object",
		`{"option": {}}`:                                    `settings: unknown key "option": known here: ordering, on_dead, max_attempts`,
		`{"max_attemps": 3}`:                                `did you mean "max_attempts"?`,
		`{"lanes": "two"}`:                                  `settings: lanes: must be a whole number, not a text`,
		`{"timeout": 30}`:                                   `settings: timeout: duration "30": must be a number with a unit, such as 30s or 5m`,
	} {
		if _, err := subscription.ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestSettingsAreEqual(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		equal bool
	}{
		{`{}`, `{}`, true},
		{`{"options": {"a": 1, "b": [1, 2]}}`, `{"options": {"b":[1,2],"a":1.0}}`, true},
		{`{"options": {}}`, `{}`, true},
		{`{"options": {"a": 1}}`, `{}`, false},
		{`{"backoff_schedule": ["60s"]}`, `{"backoff_schedule": ["1m"]}`, true},
		{`{"backoff_schedule": ["60s"]}`, `{}`, false},
		{`{"linger": "1s"}`, `{}`, false},
		{`{"ordering": "none"}`, `{}`, false},
		{`{"on_dead": "hold"}`, `{}`, false},
		{`{"max_attempts": 1}`, `{}`, false},
		{`{"lanes": 1}`, `{}`, false},
		{`{"batch": 1}`, `{}`, false},
		{`{"timeout": "1s"}`, `{}`, false},
		{`{"backoff_initial": "1s"}`, `{}`, false},
		{`{"backoff_max": "1s"}`, `{}`, false},
		{`{"max_parked": 1}`, `{}`, false},
		{`{"max_scheduled": 1}`, `{}`, false},
	} {
		a, errA := subscription.DecodeSettings([]byte(c.a))
		b, errB := subscription.DecodeSettings([]byte(c.b))
		if errA != nil || errB != nil || a.Equal(b) != c.equal || b.Equal(a) != c.equal {
			t.Errorf("%s and %s: equal %t (%v, %v), want %t", c.a, c.b, a.Equal(b), errA, errB, c.equal)
		}
	}
}

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
	bad := s.publish("bad", "", `1`)
	good := s.publish("good", "", `2`)
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
	ids := slices.Concat(s.publish("x", "a", `1`), s.publish("x", "b", `2`))
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
	bad := s.publish("bad", "b", `1`)
	<-begun
	good := s.publish("good", "g", `2`, `2`)
	eventually(t, "the retry asks for a rest", func() bool { return asked.Load() != nil })
	more := s.publish("good", "g", `3`)
	a.got(t, slices.Concat(bad, good, more))
	for _, x := range append(a.of(more[0]), a.of(bad[0])[2]) {
		// Deliveries may have been under way already when the outcome was looked at.
		if d := x.at.Sub(*asked.Load()); d < rest-100*time.Millisecond {
			t.Errorf("message %d came %s after the destination had asked for a rest of %s", x.ID, d, rest)
		}
	}
}

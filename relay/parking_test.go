package relay

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

const quickRetry = `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 100000}`

func TestRetriesUntilAccepted(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	a.plays(failing("bad", 3, errors.New("an error without a class")))
	s.play()
	bad := s.Publish("bad", "k", `{"n": 1}`)
	good := s.Publish("good", "other", `1`, `2`, `3`)
	a.got(t, append(good, bad...))
	tries := a.of(bad[0])
	for i, x := range tries {
		if x.Attempt != i+1 || x.MessageID != tries[0].MessageID {
			t.Errorf("delivery %d came as attempt %d of message %s, want %d of %s", i, x.Attempt, x.MessageID, i+1, tries[0].MessageID)
		}
	}
	if len(tries) != 4 {
		t.Errorf("%d attempts, want 4", len(tries))
	}
	s.settledAll("sub")
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.parked"); n != 0 {
		t.Errorf("%d rows stay parked", n)
	}
}

func TestBackoffGrowsAndHonoursDelay(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_initial": "50ms", "backoff_max": "1s"}`)
	b := s.cast("asks", "{asks}", quickRetry)
	a.plays(failing("bad", 3, errScene))
	b.plays(failing("asks", 1, sinks.Retryable(errScene, 300*time.Millisecond)))
	s.play()
	bad := s.Publish("bad", "", `1`)
	asks := s.Publish("asks", "", `1`)
	a.got(t, bad)
	b.got(t, asks)
	tries := a.of(bad[0])
	for i, least := range []time.Duration{40, 80, 160} { // 50, 100, 200 less a fifth
		if wait := tries[i+1].at.Sub(tries[i].at); wait < least*time.Millisecond {
			t.Errorf("wait %d: %s, want at least %dms", i, wait, least)
		}
	}
	tries = b.of(asks[0])
	if wait := tries[1].at.Sub(tries[0].at); wait < 300*time.Millisecond {
		t.Errorf("tried again after %s though the sink asked for 300ms", wait)
	}
}

func TestGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		outcome  error
		attempts int
		reason   string
	}{
		"after max attempts":   {errScene, 3, "gave up after 3 attempts: the actor refuses"},
		"at once if permanent": {sinks.Permanent(errors.New("too large")), 1, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			skips := s.cast("skips", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 3}`)
			holds := s.cast("holds", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 3, "on_dead": "hold"}`)
			skips.plays(failing("bad", 100, c.outcome))
			holds.plays(failing("bad", 100, c.outcome))
			r := s.play()
			bad := s.Publish("bad", "k", `1`)
			behind := s.Publish("good", "k", `2`, `3`)
			others := append(s.Publish("good", "", `4`), s.Publish("good", "l", `5`)...)
			skips.got(t, append(behind, others...))
			holds.got(t, others)
			s.shows("skips", "dead", bad...)
			s.shows("skips", "delivered", behind...)
			s.shows("holds", "dead", bad...)
			s.shows("holds", "held", behind...)
			if got := skips.accepted("k"); !slices.Equal(got, behind) {
				t.Errorf("delivered %v of the key, want %v", got, behind)
			}
			if n := len(holds.of(bad[0])); n != c.attempts {
				t.Errorf("%d attempts, want %d", n, c.attempts)
			}
			if reason := scalar[string](s.bench, "SELECT reason FROM postrider.deliveries WHERE subscription = 'skips' AND status = 'dead'"); reason != c.reason {
				t.Errorf("reason %q, want %q", reason, c.reason)
			}
			r.stop() // a dead letter holds its key also after a restart, and skips it also then
			s.play()
			more := s.Publish("good", "k", `6`)
			skips.got(t, more)
			s.shows("holds", "held", more...)
			s.Exec("SELECT postrider.discard('holds')")
			holds.got(t, append(behind, more...))
			if got := holds.accepted("k"); !slices.Equal(got, append(behind, more...)) {
				t.Errorf("delivered %v of the key after the discard, want %v", got, append(behind, more...))
			}
			s.shows("holds", "discarded", bad...)
		})
	}
}

func TestHeldMessagesFollowInOrder(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	a.plays(failing("bad", 1000, errScene))
	r := s.play()
	first := s.Publish("bad", "k", `1`)
	s.shows("sub", "retrying", first...)
	held := s.Publish("good", "k", `2`, `3`, `4`, `5`)
	others := append(s.Publish("good", "", `6`, `7`), s.Publish("good", "l", `8`)...)
	a.got(t, others)
	s.shows("sub", "held", held...)
	for _, restart := range []bool{false, true} {
		if restart {
			r.stop()
			s.play()
		}
		if got := a.accepted("k"); len(got) > 0 {
			t.Fatalf("%v of a key were delivered while it is blocked", got)
		}
		more := s.Publish("good", "k", `9`)
		s.shows("sub", "held", more...)
		held = append(held, more...)
	}
	a.plays(nil)
	after := s.Publish("good", "k", `10`)
	want := slices.Concat(first, held, after)
	a.got(t, want)
	if got := a.accepted("k"); !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
	a.exactly(t, slices.Concat(want, others))
	s.settledAll("sub")
}

// Every kind of message fails once or twice and is then compared with what came first: what is parked is an exact copy.
func TestParkedCopiesAreExact(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	a.plays(func(_ context.Context, d sinks.Delivery) error { // fewer in a row than trip the breaker
		if d.Topic == "good" {
			return nil
		}
		return errScene
	})
	r := s.play()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	insert := `INSERT INTO postrider.outbox (topic, key, payload, body, headers) VALUES ('bad', $1, $2::text::jsonb, $3, $4::text::jsonb) RETURNING id`
	var ids []int64
	for _, m := range [][]any{
		{nil, nil, every, nil},
		{"k\t\"'\\ é\x01", nil, []byte{}, `{"a": "b", "é\"": "\u2028 \n"}`},
		{nil, `{"b": 1.50, "a": [null, true, "\u0001"], "big": 123456789012345678901234567890}`, nil, `{}`},
		{"", `null`, nil, nil},
		{"x", `"text"`, nil, nil},
	} {
		var id int64
		if err := s.App.QueryRow(t.Context(), insert, m...).Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		s.shows("sub", "retrying", id)
		a.got(t, s.Publish("good", "", `1`))
	}
	r.stop()
	a.plays(nil)
	s.play()
	a.got(t, ids)
	for _, id := range ids {
		tries := a.of(id)
		first, last := *tries[0].Message, *tries[len(tries)-1].Message
		if !reflect.DeepEqual(first, last) {
			t.Errorf("message %d came first as\n%+v\nand from the parked table as\n%+v", id, first, last)
		}
	}
	if first := a.of(ids[0])[0]; !bytes.Equal(first.Payload, every) || first.Key != "" || first.Headers != nil || first.JSON {
		t.Errorf("binary body came as %+v", first.Message)
	}
}

func TestScheduledMessages(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	a.plays(failing("bad", 1000, errScene))
	r := s.play()
	later := func(topic, key, wait string) int64 {
		return scalar[int64](s.bench, `SELECT postrider.enqueue($1, '1', nullif($2, ''), NULL, clock_timestamp() + $3::text::interval)`, topic, key, wait)
	}
	past := later("good", "k", "-1 hour")
	soon := later("good", "k", "1 hour")
	free := later("good", "", "1 hour")
	after := s.Publish("good", "k", `2`) // is not blocked by what is scheduled
	a.got(t, append(after, past))
	s.shows("sub", "scheduled", soon, free)
	blocker := s.Publish("bad", "b", `3`)
	s.shows("sub", "retrying", blocker...)
	blocked := later("good", "b", "300 ms")
	s.shows("sub", "held", blocked) // once it is due
	r.stop()
	s.Exec("UPDATE postrider.parked SET due = clock_timestamp() + interval '600 ms' WHERE state = 'scheduled'") // the hour is over
	due := scalar[time.Time](s.bench, "SELECT min(due) FROM postrider.parked WHERE state = 'scheduled'")
	s.play()
	a.got(t, []int64{soon, free})
	for _, id := range []int64{soon, free} {
		if at := a.of(id)[0].at; at.Before(due.Add(-time.Millisecond)) {
			t.Errorf("message %d was delivered %s early", id, due.Sub(at))
		}
	}
	a.plays(nil)
	a.got(t, []int64{blocker[0], blocked})
	if got := a.accepted("b"); !slices.Equal(got, []int64{blocker[0], blocked}) {
		t.Errorf("delivered %v of a key, want %d before %d", got, blocker[0], blocked)
	}
	s.settledAll("sub")
	if n := a.again(); n > 0 {
		t.Errorf("%d messages were delivered twice", n)
	}
}

// More messages are due at one moment than are kept in memory.
func TestScheduledBeyondMemory(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	r := s.play()
	const n = store.MaxScheduled + 1500
	if _, err := s.App.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, payload, deliver_at)
		SELECT 'later', to_jsonb(g), now() + interval '1 hour' FROM generate_series(1, $1::int) g`, n); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are scheduled", func() bool { return s.parkedIn("sub", states.Scheduled) == n })
	r.stop()
	if got := len(a.all()); got != 0 {
		t.Fatalf("%d messages were delivered before they were due", got)
	}
	s.Exec("UPDATE postrider.parked SET due = now()") // time passes
	s.play()
	eventually(t, "all are delivered", func() bool { return a.count() >= n })
	s.settledAll("sub")
	a.exactly(t, s.stored())
}

func TestReasonIsKeptWhileRetrying(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"backoff_initial": "1h", "max_attempts": 2}`)
	a.plays(failing("bad", 1, errScene))
	s.play()
	bad := s.Publish("bad", "", `1`)
	s.shows("sub", "retrying", bad...)
	row := scalar[string](s.bench, `SELECT attempts || ' ' || reason || ' ' || (due > now() + interval '40 minutes')
		FROM postrider.deliveries WHERE subscription = 'sub'`)
	if !strings.HasPrefix(row, "1 the actor refuses true") {
		t.Errorf("the view shows %q", row)
	}
	s.Exec("SELECT postrider.redrive('sub', $1::bigint[])", bad)
	a.got(t, nil)
	eventually(t, "the redriven message comes", func() bool { return len(a.of(bad[0])) == 2 })
}

// A running relay keeps only the next scheduled messages in memory, also those that come due before what it knows.
func TestScheduledBeyondMemoryWhileRunning(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	r := s.play()
	const n = 2*store.MaxScheduled + 500
	if _, err := s.App.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, payload, deliver_at)
		SELECT 'later', to_jsonb(g), now() + interval '1 hour' FROM generate_series(1, $1::int) g`, n); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are scheduled", func() bool { return s.parkedIn("sub", states.Scheduled) == n })
	run := r.now.Load().running()[subscription.Whole("sub")]
	eventually(t, "memory holds the next ones only", func() bool {
		has := run.Inside()
		return has.Parked <= store.MaxScheduled+500 && !has.Loading
	})
	if _, err := s.App.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, payload, deliver_at)
		SELECT 'soon', to_jsonb(g), clock_timestamp() + interval '200 ms' FROM generate_series(1, 5) g`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "those that are due are delivered", func() bool { return a.count() >= 5 })
	if a.count() != 5 {
		t.Errorf("%d messages were delivered, want 5", a.count())
	}
}

// Parked messages of one key do not fill max_parked for all, and what holds everything up in the end is named.
func TestHotKeyLeavesRoomForOthers(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"max_parked": 20, "backoff_initial": "1h", "lanes": 2, "batch": 1}`)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.Key == "hot" {
			return sinks.Retryable(errors.New("no"), time.Hour)
		}
		return nil
	})
	s.play()
	others := s.Publish("t", "other", "1")
	s.shows("sub", "delivered", others...)
	for range 20 {
		s.Publish("t", "hot", "1")
		others = append(others, s.Publish("t", "other", "1")...)
	}
	s.shows("sub", "delivered", others...)
	eventually(t, "the hot key's are parked", func() bool { return s.parkedIn("sub", "held", "retrying") == 20 })
	for range 70 { // as many as there is room for, and more
		s.Publish("t", "hot", "1")
	}
	eventually(t, "status names the key", func() bool {
		return strings.Contains(scalar[string](s.bench, "SELECT coalesce(trouble, '') FROM postrider.subscription_status"), `behind key "hot" so many`)
	})
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/internal/relaytest"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// cancel asks for a message to be cancelled and returns the answer.
func (s *scene) cancel(name string, id int64) string {
	s.t.Helper()
	return scalar[string](s.bench, `SELECT answer FROM postrider.cancel($1, $2)`, id, name)
}

// cancels asks again and again until the answer is that one.
func (s *scene) answers(name, answer string, ids ...int64) {
	s.t.Helper()
	for _, id := range ids {
		eventually(s.t, fmt.Sprintf("message %d of %s is %s", id, name, answer), func() bool { return s.cancel(name, id) == answer })
	}
}

// delivered returns the ids that the actor has accepted, in order.
func (a *actor) delivered() (ids []int64) {
	for _, at := range a.all() {
		if at.err == nil {
			ids = append(ids, at.ID)
		}
	}
	return ids
}

// Whatever a message waits for, it is cancelled without anything else noticing: nothing is opened or delivered anew, and its key goes on.
func TestCancelOfWhatWaits(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", `{"backoff_initial": "1h", "lanes": 1, "batch": 1}`)
	out, end := make(chan int64, 10), make(chan error)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		switch d.Topic {
		case "a.fails":
			return sinks.Failed(errors.New("not now"), 0)
		case "a.stays":
			out <- d.ID
			return <-end
		}
		return nil
	})
	s.play()
	retrying := s.Publish("a.fails", "k", "1")[0]
	held := s.Publish("a.b", "k", "1", "2")
	scheduled := scalar[int64](s.bench, `SELECT postrider.enqueue('a.b', '1', deliver_at => now() + interval '1 hour')`)
	s.shows("a", "retrying", retrying)
	s.shows("a", "held", held...)
	s.shows("a", "scheduled", scheduled)
	stays := s.Publish("a.stays", "stays", "1")[0]
	if got := <-out; got != stays {
		t.Fatalf("%d is out, want %d", got, stays)
	}
	inLane := s.Publish("a.b", "other", "1", "2", "3")
	for _, id := range []int64{held[0], scheduled, inLane[1]} {
		if got := s.cancel("a", id); got != "requested" {
			t.Errorf("the answer for %d is %s", id, got)
		}
		s.answers("a", "cancelled", id)
	}
	s.cancel("a", retrying) // its key goes on with the second that was held
	s.answers("a", "cancelled", retrying)
	end <- nil
	s.shows("a", "delivered", held[1], inLane[0], inLane[2], stays)
	s.shows("a", "cancelled", retrying, held[0], scheduled, inLane[1])
	for _, id := range a.delivered() {
		if id == retrying || id == held[0] || id == scheduled || id == inLane[1] {
			t.Errorf("%d was delivered", id)
		}
	}
	if a.runs != 1 {
		t.Errorf("the destination was opened %d times", a.runs)
	}
	s.answers("a", "delivered", stays)
	eventually(t, "requests are forgotten", func() bool { return scalar[int](s.bench, `SELECT count(*) FROM postrider.cancels`) == 0 })
	if n := scalar[int](s.bench, `SELECT cancelled FROM postrider.subscription_status WHERE name = 'a'`); n != 4 {
		t.Errorf("status counts %d cancelled messages, want 4", n)
	}
	if n := scalar[int](s.bench, `SELECT postrider.redrive('a', $1)`, []int64{retrying, scheduled}); n != 0 {
		t.Errorf("%d cancelled messages were redriven", n)
	}
}

// What is out when it is cancelled is delivered, or it is cancelled instead of being tried again.
func TestCancelOfWhatIsOut(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", `{"max_attempts": 2, "lanes": 8, "batch": 1}`)
	out, end := make(chan int64, 10), map[string]chan error{}
	for _, topic := range []string{"a.accepts", "a.fails", "a.dies", "a.takes"} {
		end[topic] = make(chan error)
	}
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		out <- d.ID
		return <-end[d.Topic]
	})
	s.play()
	ids := map[string]int64{}
	for topic := range end {
		ids[topic] = s.Publish(topic, "", "1")[0]
	}
	for range ids {
		<-out
	}
	for topic, id := range ids {
		if got := s.cancel("a", id); got != "requested" {
			t.Errorf("%s: the answer is %s", topic, got)
		}
	}
	eventually(t, "the relay knows of all", func() bool {
		return scalar[int](s.bench, `SELECT count(*) FROM postrider.cancels WHERE seen IS NULL`) == 0
	})
	for topic, id := range ids {
		if got := s.status("a", id); got != "pending" {
			t.Errorf("%s is %s while it is out", topic, got)
		}
	}
	end["a.accepts"] <- nil
	end["a.fails"] <- sinks.Retryable(errors.New("no"), 0)
	end["a.dies"] <- sinks.Permanent(errors.New("never"))
	end["a.takes"] <- sinks.Leased(time.Hour, 7)
	s.answers("a", "delivered", ids["a.accepts"])
	s.answers("a", "cancelled", ids["a.fails"], ids["a.dies"], ids["a.takes"])
	if scalar[bool](s.bench, `SELECT postrider.complete('a', $1, 7)`, ids["a.takes"]) {
		t.Error("a callback for what was cancelled counts")
	}
	if n := len(a.all()); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
}

// A receiver that has taken a message is not waited for.
func TestCancelOfLeased(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.Topic == "a.takes" {
			return sinks.Leased(time.Hour, 7)
		}
		return nil
	})
	s.play()
	leased := s.Publish("a.takes", "k", "1")[0]
	s.shows("a", "leased", leased)
	behind := s.Publish("a.b", "k", "1")[0]
	s.shows("a", "held", behind)
	s.answers("a", "cancelled", leased)
	s.shows("a", "delivered", behind)
	if scalar[bool](s.bench, `SELECT postrider.complete('a', $1, 7)`, leased) {
		t.Error("a callback for what was cancelled counts")
	}
}

// A request that nobody delivers yet is kept, and carried out before anything is delivered; by whoever takes over.
func TestCancelWhilePaused(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	s.Exec(`SELECT postrider.pause('a')`)
	ids := s.Publish("a.b", "k", "1", "2", "3")
	for range 2 {
		if got := s.cancel("a", ids[1]); got != "requested" {
			t.Errorf("the answer is %s", got)
		}
	}
	s.Exec(`UPDATE postrider.cancels SET seen = 1`) // by an owner that is gone
	s.Exec(`SELECT postrider.resume('a')`)
	r := s.play()
	s.answers("a", "cancelled", ids[1])
	s.shows("a", "delivered", ids[0], ids[2])
	r.stop()
	s.Exec(`SELECT postrider.replay('a', 'earliest')`)
	s.play()
	eventually(t, "the others are delivered again", func() bool { return len(a.delivered()) == 4 })
	for _, id := range a.delivered() {
		if id == ids[1] {
			t.Error("what was cancelled was delivered")
		}
	}
}

// Many at once cost one look for a thousand, and those that are only in the table are found while others of them are being read: the destination
// is not opened anew, and the subscription not loaded.
func TestCancelOfMany(t *testing.T) {
	const many = 2*store.MaxScheduled + 3_000
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	s.Exec(`INSERT INTO postrider.outbox (topic, key, payload, deliver_at) SELECT 'a.many', 'key-' || g % 100, '1', now() + interval '1 hour' FROM generate_series(1, $1) g`, many)
	s.Exec(`INSERT INTO postrider.parked (subscription, id, created_at, xid, state, due, topic, key, payload)
		SELECT 'a', id, created_at, xid, 'scheduled', deliver_at + id * interval '1 microsecond', topic, key, payload FROM postrider.outbox`)
	s.play()
	s.shows("a", "delivered", s.Publish("a.b", "key-1", "1")...)
	version := scalar[int64](s.bench, `SELECT version FROM postrider.subscriptions`)
	if n := scalar[int](s.bench, `SELECT postrider.cancel_many('a', topic => 'a.*')`); n != many {
		t.Errorf("%d messages to be cancelled", n)
	}
	if n := scalar[int](s.bench, `SELECT postrider.cancel_many('a', topic => 'a.*', key => 'key-1')`); n != 0 {
		t.Errorf("%d messages were asked for again", n)
	}
	relaytest.EventuallyIn(t, 10*relaytest.Patience, "all are cancelled", func() bool { return s.parkedIn("a", "cancelled") == many })
	id := s.Publish("a.b", "key-1", "1")[0]
	s.shows("a", "delivered", id)
	if n := scalar[int64](s.bench, `SELECT version FROM postrider.subscriptions`); n != version || a.runs != 1 {
		t.Errorf("the subscription was loaded anew: version %d after %d, opened %d times", n, version, a.runs)
	}
}

func TestBadCancels(t *testing.T) {
	s := newScene(t)
	s.cast("a", "{a.>}", "{}")
	id := s.Publish("b.c", "", "1")[0]
	for sql, want := range map[string]string{
		fmt.Sprintf(`SELECT postrider.cancel(%d, 'none')`, id): `subscription "none": there is none of this name`,
		fmt.Sprintf(`SELECT postrider.cancel(%d, 'a')`, id):    fmt.Sprintf(`message %d: no subscription "a" has a message of this id`, id),
		`SELECT postrider.cancel(99)`:                          `message 99: no subscription has a message of this id`,
		`SELECT postrider.cancel_many('a')`:                    `cancel_many of "a": give ids, a topic or a key`,
		`SELECT postrider.cancel_many('none', ids => '{1}')`:   `subscription "none": there is none of this name`,
		`SELECT postrider.cancel_many('a', topic => 'a b')`:    `topic "a b": must be a pattern such as`,
	} {
		if _, err := s.Admin.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
	}
}

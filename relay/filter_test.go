package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// What a filter leaves out is settled without a row, from a pass and from the stream, with and without keys; all else arrives, in order.
func TestFilter(t *testing.T) {
	s := newScene(t)
	big := s.subscribe("big", "{orders.>}", `{"filter": "payload > 100 && topic != \"orders.other\""}`, "now")
	all := s.subscribe("all", "{>}", `{}`, "now")
	early := s.bulk("orders.created", 150, 7)
	_, g := s.startWatched()
	big.arrives(t, early[100:])
	late, other := s.bulk("orders.created", 150, 0), s.bulk("orders.other", 150, 3)
	want := slices.Concat(early[100:], late[100:])
	big.got(t, want)
	eventually(t, "the others are counted", func() bool { return g.only("filtered_total", "big") == 350 })
	all.got(t, slices.Concat(early, late, other))
	s.settledAll("big")
	big.exactly(t, want)
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.parked"); n > 0 {
		t.Errorf("%d messages are parked", n)
	}
	if n := g.only("deliveries_total", "big", "accepted"); n != 100 {
		t.Errorf("%v messages count as delivered, want 100", n)
	}
	if swaps := big.swaps(); len(swaps) > 0 {
		t.Errorf("out of order: %v", swaps)
	}
}

// A message that a filter cannot judge is a dead letter with the reason, without an attempt; its key and all others go on. When the filter is
// another one, a redrive judges it anew.
func TestFilterThatCannotJudge(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload.total > 100"}`, "now")
	s.start()
	small, broken, large := s.one("t", "k", `{"total": 1}`), s.one("t", "k", `{"sum": 200}`), s.one("t", "k", `{"total": 200}`)
	r.arrives(t, []int64{large})
	s.shows("sub", "delivered", small)
	s.shows("sub", "dead", broken)
	reason := scalar[string](s.bench, "SELECT reason || ' after ' || attempts FROM postrider.parked WHERE id = $1", broken)
	if want := "filter: no such key: total, which has(…) would ask for first after 0"; reason != want {
		t.Errorf("it is dead because %q, want %q", reason, want)
	}
	s.subscribe("sub", "{>}", `{"filter": "!has(payload.total)"}`, "now")
	s.Exec("SELECT postrider.redrive('sub')")
	r.got(t, []int64{broken, large})
	s.settledAll("sub")
	r.exactly(t, []int64{large, broken})
}

// With on_dead: hold the key waits behind what cannot be judged; what is not wanted any more when the key goes on does not come.
func TestFilterThatCannotJudgeHoldsItsKey(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload.total > 100", "on_dead": "hold"}`, "now")
	s.start()
	broken, next, other := s.one("t", "k", `{}`), s.one("t", "k", `{"total": 200}`), s.one("t", "l", `{"total": 300}`)
	r.arrives(t, []int64{other})
	s.shows("sub", "held", next)
	s.shows("sub", "dead", broken)
	s.subscribe("sub", "{>}", `{"filter": "has(payload.total) && payload.total > 250", "on_dead": "hold"}`, "now")
	s.Exec("SELECT postrider.redrive('sub')")
	s.settledAll("sub")
	r.exactly(t, []int64{other})
}

// What carries too much to be read together with others is judged when it is read by itself; by its topic at once. Bytes are no payload.
func TestFilterOfLargeMessagesAndBytes(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "topic == \"a\" && (payload == null ? size(body) == 3 : payload.n > 1)"}`, "now")
	_, g := s.startWatched()
	large := func(topic string, n int) int64 {
		return s.one(topic, "k", fmt.Sprintf(`{"n": %d, "text": %q}`, n, strings.Repeat("x", 100_000)))
	}
	bytes := func(n int) int64 {
		return scalar[int64](s.bench, "INSERT INTO postrider.outbox (topic, body) VALUES ('a', repeat('x', $1)::bytea) RETURNING id", n)
	}
	want := []int64{}
	for n := range 4 {
		id := large("a", n)
		large("b", n)
		if n > 1 {
			want = append(want, id)
		}
	}
	bytes(2)
	bytes(100_000)
	want = append(want, bytes(3))
	r.arrives(t, want)
	s.settledAll("sub")
	eventually(t, "the others are counted", func() bool { return g.only("filtered_total", "sub") == 8 })
	broken := s.one("a", "k", fmt.Sprintf(`{"text": %q}`, strings.Repeat("x", 100_000)))
	s.shows("sub", "dead", broken)
	if reason := scalar[string](s.bench, "SELECT reason FROM postrider.parked WHERE id = $1", broken); !strings.HasPrefix(reason, "filter: no such key: n") {
		t.Errorf("it is dead because %q", reason)
	}
	r.exactly(t, want)
}

// Subscriptions with the same filter share what it says of a message that all of them take from the stream.
func TestFilterIsEvaluatedOnce(t *testing.T) {
	const subscriptions, messages = 50, 200
	s := newScene(t)
	for i := range subscriptions {
		s.subscribe(fmt.Sprintf("sub-%d", i), "{>}", `{"filter": "payload % 2 == 1"}`, "now")
	}
	_, g := s.startWatched()
	filtered := func(n float64) func() bool {
		return func() bool { return g.sum("filtered_total", "") == n*subscriptions }
	}
	for n, before := 1.0, 0.0; n < 1000; n++ { // until all of them are live
		s.one("t", "", "0")
		eventually(t, "a message is judged by all", filtered(n))
		now := g.only("evaluations_total")
		if now-before != 1 {
			before = now
			continue
		}
		s.bulk("t", messages, 0)
		eventually(t, "all are judged by all", filtered(n+messages/2))
		if evaluations := g.only("evaluations_total") - now; evaluations != messages {
			t.Errorf("%v evaluations of %d messages", evaluations, messages)
		}
		for i := range subscriptions {
			r := s.recorder(fmt.Sprintf("sub-%d", i))
			eventually(t, "what is wanted arrives", func() bool { return r.count() == messages/2 })
		}
		return
	}
	t.Error("they never become live")
}

// What a filter has left out is settled as durably as what was delivered: another filter finds nothing of it, nor does another relay.
func TestWhatIsFilteredDoesNotComeBack(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload > 90"}`, "now")
	run := s.start()
	ids := s.bulk("t", 100, 5)
	r.arrives(t, ids[90:])
	s.shows("sub", "delivered", ids...)
	s.crash()
	s.subscribe("sub", "{>}", `{}`, "now")
	more := s.bulk("t", 10, 5)
	r.got(t, more)
	run.stop()
	s.start()
	last := s.bulk("t", 10, 5)
	r.got(t, last)
	s.settledAll("sub")
	r.exactly(t, slices.Concat(ids[90:], more, last))
}

// A retry that its filter has come to leave out ends, and lets its key go on; so does what was scheduled.
func TestFilterOfWhatIsParked(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload > 0", "backoff_initial": "1h"}`, "now")
	r.answer(func(d sinks.Delivery) error {
		if string(d.Payload) == "1" {
			return sinks.Failed(errScene, 0)
		}
		return nil
	})
	s.start()
	first, second := s.one("t", "k", "1"), s.one("t", "k", "2")
	later := scalar[int64](s.bench, "SELECT postrider.enqueue('t', '3', deliver_at => now() + interval '1 hour')")
	unwanted := scalar[int64](s.bench, "SELECT postrider.enqueue('t', '0', deliver_at => now() + interval '1 hour')")
	s.shows("sub", "held", second)
	s.shows("sub", "retrying", first)
	s.shows("sub", "scheduled", later)
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.parked WHERE id = $1", unwanted); n > 0 {
		t.Error("what is not wanted waits for its time")
	}
	s.subscribe("sub", "{>}", `{"filter": "payload == 2", "backoff_initial": "1h"}`, "now")
	s.Exec("UPDATE postrider.parked SET due = now() WHERE state IN ('retrying', 'scheduled')")
	s.crash() // for the relay to read the rows
	s.settledAll("sub")
	r.exactly(t, []int64{second})
}

// one inserts a message and returns its id.
func (s *scene) one(topic, key, payload string) int64 {
	s.t.Helper()
	return s.Publish(topic, key, payload)[0]
}

// What somebody wants cancelled is cancelled, though nobody would have got it.
func TestCancelOfWhatAFilterLeavesOut(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", `{"filter": "payload != 2"}`)
	s.Exec(`SELECT postrider.pause('a')`)
	ids := s.Publish("a.b", "k", "1", "2", "3")
	if got := s.cancel("a", ids[1]); got != "requested" {
		t.Errorf("the answer is %s", got)
	}
	s.Exec(`SELECT postrider.resume('a')`)
	s.play()
	s.answers("a", "cancelled", ids[1])
	s.shows("a", "delivered", ids[0], ids[2])
	a.exactly(t, []int64{ids[0], ids[2]})
}

// What is left out costs nothing of a limit.
func TestFilterComesBeforeLimits(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload == 500", "limits": {"rate": "1/h"}}`, "now")
	s.start()
	ids := s.bulk("t", 500, 0)
	r.arrives(t, ids[499:])
	s.settledAll("sub")
}

// A dead letter of the filter's says nothing about a destination that is down; what is left out is settled meanwhile.
func TestFilterWhileTheDestinationIsDown(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"filter": "payload.wanted", "ordering": "none"}`, "now")
	r.answer(func(sinks.Delivery) error { return sinks.Unavailable(errScene, 0) })
	_, g := s.startWatched()
	wanted := s.one("t", "", `{"wanted": true}`)
	eventually(t, "the destination counts as down", func() bool { return g.only("destination_down", "sub") == 1 })
	for n := range 5 {
		s.shows("sub", "dead", s.one("t", "", `{}`), s.one("t", "", fmt.Sprintf(`{"text": %q}`, strings.Repeat("x", 100_000))))
		s.one("t", "", `{"wanted": false}`)
		eventually(t, "what is not wanted is counted", func() bool { return g.only("filtered_total", "sub") == float64(n+1) })
	}
	if g.only("destination_down", "sub") != 1 {
		t.Error("the destination does not count as down any more")
	}
	r.answer(nil)
	r.arrives(t, []int64{wanted})
}

// A filter that somebody has put into the table by hand, and that does not compile, stops its subscription, with the reason. Others go on.
func TestBadFilterStopsItsSubscription(t *testing.T) {
	s := newScene(t)
	bad := s.subscribe("bad", "{>}", `{"filter": "payload.total >> 100"}`, "now")
	good := s.subscribe("good", "{>}", `{"filter": "payload.total > 100"}`, "now")
	s.start()
	id := s.one("t", "", `{"total": 200}`)
	good.arrives(t, []int64{id})
	eventually(t, "the subscription is paused with the reason", func() bool {
		reason := scalar[string](s.bench, "SELECT coalesce(paused_reason, '') FROM postrider.subscriptions WHERE name = 'bad'")
		return strings.Contains(reason, "filter: line 1, column 16: ")
	})
	s.subscribe("bad", "{>}", `{"filter": "payload.total > 100"}`, "now")
	s.Exec("SELECT postrider.resume('bad')")
	bad.arrives(t, []int64{id})
}

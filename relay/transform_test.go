package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// simple is a transform of all that can be.
const simple = `{"payload": "{\"n\": payload.n * 2}", "headers": "{\"of\": topic}", "topic": "\"new.\" + topic"}`

// lateLoader is a sender that loads large messages when it has a use for them.
type lateLoader struct {
	sinks.SinkSender
	answer func(sinks.Delivery) error
}

var _ sinks.LateLoader = lateLoader{}

// LoadsLate implements sinks.LateLoader.
func (lateLoader) LoadsLate() {}

// Send implements sinks.Sender.
func (l lateLoader) Send(ctx context.Context, d sinks.Delivery, done func(error)) {
	if d.Load == nil {
		l.SinkSender.Send(ctx, d, done)
		return
	}
	go func() {
		m, free, err := d.Load(ctx)
		if err == nil {
			d.Message = m
			err = l.answer(d)
			free()
		}
		done(err)
	}()
}

// received are the messages that a destination of some kind has got.
type received struct {
	mu  sync.Mutex
	all []sinks.Message
}

func (r *received) take(d sinks.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *d.Message)
	return nil
}

func (r *received) list() []sinks.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// opens has all subscriptions deliver to a destination of a kind: one that takes batches, one whose deliveries end one by one, and one that
// loads large messages late.
func (r *received) opens(kind string) func(*Config) {
	m := &sinktest.Memory{Answer: r.take}
	return func(c *Config) {
		c.Open = func(context.Context, subscription.Subscription) (sinks.Sink, error) {
			switch kind {
			case "late":
				return lateLoader{m.Open(), r.take}, nil
			case "sender":
				return m.Open(), nil
			}
			a := newActor()
			a.answer(r.take)
			return a.hire(), nil
		}
	}
}

// What is delivered is what was made of the message, to whatever kind of destination, small and large; what cannot be transformed is a dead letter
// with the reason, without an attempt of its own, and goes on when it can.
func TestTransform(t *testing.T) {
	for _, kind := range []string{"batches", "sender", "late"} {
		t.Run(kind, func(t *testing.T) {
			s := newScene(t)
			var got received
			s.subscribe("sub", "{>}", `{"transform": `+simple+`}`, "now")
			_, g := s.startWatched(got.opens(kind))
			want := map[int64]string{}
			for n := range 6 {
				text := strings.Repeat("x", (n%2)*100_000)
				want[s.one("t", "k", fmt.Sprintf(`{"n": %d, "text": %q}`, n, text))] = fmt.Sprintf(`{"n":%d}`, 2*n)
			}
			broken := s.Publish("t", "k", `{}`, fmt.Sprintf(`{"text": %q}`, strings.Repeat("x", 100_000)))
			last := s.one("t", "k", `{"n": 50}`)
			want[last] = `{"n":100}`
			s.shows("sub", "dead", broken...)
			s.shows("sub", "delivered", last)
			check := func() {
				t.Helper()
				for _, m := range got.list() {
					if string(m.Payload) != want[m.ID] || !m.JSON || string(m.Headers) != `{"of":"t"}` || m.Topic != "new.t" || m.Key != "k" {
						t.Errorf("message %d arrives as %.200s %s %s %s, want %s", m.ID, m.Payload, m.Headers, m.Topic, m.Key, want[m.ID])
					}
				}
				if n := len(got.list()); n != len(want) {
					t.Errorf("%d messages arrive, want %d", n, len(want))
				}
			}
			check()
			reasons := scalar[string](s.bench, "SELECT string_agg(DISTINCT reason || ' after ' || attempts, '; ') FROM postrider.parked")
			if want := "transform.payload: no such key: n, which has(…) would ask for first after 0"; reasons != want {
				t.Errorf("they are dead because %q, want %q", reasons, want)
			}
			s.subscribe("sub", "{>}", `{"transform": `+strings.Replace(simple, "payload.n * 2", "payload.?n.orValue(7)", 1)+`}`, "now")
			s.Exec("SELECT postrider.redrive('sub')")
			s.settledAll("sub")
			for _, id := range broken {
				want[id] = `{"n":7}`
			}
			check()
			eventually(t, "the room of large messages is given back", func() bool { return g.only("memory_used_bytes", "large") == 0 })
		})
	}
}

// Each attempt gets the same bytes; what is parked is the message as it was inserted.
func TestTransformOfRetries(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"transform": {"payload": "{\"b\": payload, \"a\": payload}"}, "backoff_initial": "1h"}`, "now")
	r.answer(func(sinks.Delivery) error { return sinks.Failed(errScene, 0) })
	s.start()
	id := s.one("t", "k", `{"x": 1.50}`)
	s.shows("sub", "retrying", id)
	if payload := scalar[string](s.bench, "SELECT payload::text FROM postrider.parked"); payload != `{"x": 1.50}` {
		t.Errorf("%s is parked", payload)
	}
	r.answer(nil)
	s.Exec("SELECT postrider.redrive('sub', ARRAY[$1::bigint])", id)
	r.got(t, []int64{id})
	s.settledAll("sub")
	if n := len(r.of(id)); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	for _, a := range r.of(id) {
		if string(a.Payload) != `{"a":{"x":1.5},"b":{"x":1.5}}` {
			t.Errorf("attempt %d has %s", a.Attempt, a.Payload)
		}
	}
}

// A message that cannot be transformed says nothing about a destination that is down, and its neighbours in a batch are delivered.
func TestTransformWhileTheDestinationIsDown(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"transform": {"payload": "payload.n"}, "ordering": "none"}`, "now")
	r.answer(func(sinks.Delivery) error { return sinks.Unavailable(errScene, 0) })
	_, g := s.startWatched()
	good := s.Publish("t", "", `{"n": 1}`, `{}`, `{"n": 2}`, `{}`, `{"n": 3}`)
	good = []int64{good[0], good[2], good[4]}
	eventually(t, "the destination counts as down", func() bool { return g.only("destination_down", "sub") == 1 })
	eventually(t, "the others are dead", func() bool { return s.parkedIn("sub", "dead") == 2 })
	if g.only("destination_down", "sub") != 1 {
		t.Error("the destination does not count as down any more")
	}
	r.answer(nil)
	r.arrives(t, good)
}

// Subscriptions with the same transform share what it makes of a message.
func TestTransformIsEvaluatedOnce(t *testing.T) {
	const subscriptions, messages = 20, 100
	s := newScene(t)
	for i := range subscriptions {
		s.subscribe(fmt.Sprintf("sub-%d", i), "{>}", `{"transform": {"payload": "[payload]"}}`, "now")
	}
	_, g := s.startWatched()
	delivered := func(n float64) func() bool {
		return func() bool { return g.sum("deliveries_total", "accepted") == n*subscriptions }
	}
	for n, before := 1.0, 0.0; n < 1000; n++ { // until all of them are live
		s.one("t", "", "0")
		eventually(t, "a message is delivered to all", delivered(n))
		now := g.only("evaluations_total")
		if now-before != 1 {
			before = now
			continue
		}
		s.bulk("t", messages, 0)
		eventually(t, "all are delivered to all", delivered(n+messages))
		if evaluations := g.only("evaluations_total") - now; evaluations != messages {
			t.Errorf("%v evaluations of %d messages", evaluations, messages)
		}
		return
	}
	t.Error("they never become live")
}

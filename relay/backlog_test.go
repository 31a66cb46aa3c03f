package relay

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/sinks"
)

// withStart makes a subscription as cast does, beginning at start.
func (s *scene) withStart(name, topics, settings, start string) *actor {
	s.t.Helper()
	s.Exec("SELECT postrider.subscribe($1, $2::text::text[], 'actor:' || $1, $3::text::jsonb, $4)", name, topics, settings, start)
	return s.actor(name)
}

func TestBacklog(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d subscriptions", n), func(t *testing.T) {
			s := newScene(t)
			var ids []int64
			for range 10 {
				ids = append(ids, s.bulk("orders.created", 2000, 50)...)
				s.bulk("other", 100, 0)
			}
			for i := range n {
				a := s.withStart(fmt.Sprintf("sub-%d", i), "{orders.>}", "{}", "earliest")
				a.limits = sinks.Limits{Lanes: 4, Batch: 500}
			}
			r := s.play()
			eventually(t, "the pass is under way", func() bool { return s.actor("sub-0").count() > 500 })
			r.stop() // in the middle of it
			s.play()
			ids = append(ids, s.bulk("orders.paid", 100, 50)...)
			for i := range n {
				a := s.actor(fmt.Sprintf("sub-%d", i))
				a.got(t, ids)
				a.exactly(t, ids)
				for k := range 50 {
					if got := a.accepted(fmt.Sprintf("key-%d", k)); !slices.IsSorted(got) {
						t.Errorf("key %d was delivered out of order", k)
					}
				}
			}
			eventually(t, "no lag is shown", func() bool {
				return scalar[int](s.bench, "SELECT sum(lag_messages)::int FROM postrider.subscription_status") == 0
			})
		})
	}
}

func TestStarts(t *testing.T) {
	s := newScene(t)
	old := s.bulk("x", 10, 0)
	between := scalar[time.Time](s.bench, "SELECT clock_timestamp()")
	recent := s.bulk("x", 10, 0)
	now := s.withStart("now", "{>}", "{}", "now")
	earliest := s.withStart("earliest", "{>}", "{}", "earliest")
	since := s.withStart("since", "{>}", "{}", between.Format(time.RFC3339Nano))
	after := s.bulk("x", 10, 0)
	s.play()
	live := s.bulk("x", 10, 0)
	for _, c := range []struct {
		a    *actor
		want []int64
	}{{now, slices.Concat(after, live)}, {earliest, slices.Concat(old, recent, after, live)}, {since, slices.Concat(recent, after, live)}} {
		c.a.got(t, c.want)
		c.a.exactly(t, c.want)
	}
	if got := s.status("now", old[0]); got != "" {
		t.Errorf("a message from before the subscription is shown as %s", got)
	}
}

// A slow destination's queue refuses messages: its runner reads the table instead and comes back, while another subscription goes on
// undisturbed.
func TestSlowSinkFallsBackToTheTable(t *testing.T) {
	for _, follow := range []Follow{FollowStream, FollowTimer} {
		t.Run(string(follow), func(t *testing.T) {
			s := newScene(t)
			slow, quick := s.cast("slow", "{>}", "{}"), s.cast("quick", "{>}", "{}")
			let := make(chan struct{})
			registry := prometheus.NewRegistry()
			s.play(func(c *Config) { c.Follow, c.MemoryLimit, c.Registerer = follow, 1<<20, registry })
			first := s.Publish("x", "", `1`)
			slow.got(t, first)
			passes := passesOf(t, registry, "slow")
			slow.plays(func(ctx context.Context, d sinks.Delivery) error {
				return hanging(d.Topic, let)(ctx, d)
			})
			ids := first
			for range 60 { // 5,000 messages of 256 bytes and more are beyond the memory that all have together
				ids = append(ids, s.bulk("x", 100, 20)...)
			}
			quick.got(t, ids)
			if n := len(slow.accepted("*")); n > 1 {
				t.Fatalf("%d messages came through a destination that hangs", n)
			}
			close(let)
			slow.got(t, ids)
			if n := passesOf(t, registry, "slow") - passes; n == 0 {
				t.Error("the queue has not overflowed: nothing was tried here")
			}
			s.settledAll("slow")
			live := s.Publish("x", "key-3", `2`)
			slow.got(t, live)
			slow.exactly(t, append(ids, live...))
			quick.got(t, live)
			quick.exactly(t, append(ids, live...))
			for k := range 20 {
				if got := slow.accepted(fmt.Sprintf("key-%d", k)); !slices.IsSorted(got) {
					t.Errorf("key %d was delivered out of order", k)
				}
			}
		})
	}
}

func passesOf(t *testing.T, r *prometheus.Registry, name string) (n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "postrider_passes_total" && m.GetLabel()[0].GetValue() == name {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// Each message alone is larger than a share of the memory.
func TestHugeMessages(t *testing.T) {
	s := newScene(t)
	a, small := s.cast("all", "{>}", "{}"), s.cast("small", "{small}", "{}")
	var bytes atomic.Int64
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		bytes.Add(int64(len(d.Payload)))
		return nil
	})
	huge := func(n int) {
		s.Exec(`INSERT INTO postrider.outbox (topic, key, body) SELECT 'huge', 'k', convert_to(repeat('x', 2000000), 'UTF8') FROM generate_series(1, $1::int)`, n)
	}
	huge(15)
	s.play(func(c *Config) { c.MemoryLimit = 4 << 20 })
	s.Publish("small", "k", `1`)
	for range 15 {
		huge(1)
	}
	s.Publish("small", "k", `2`)
	ids := s.stored()
	a.got(t, ids)
	a.exactly(t, ids)
	if got := a.accepted("*"); !slices.IsSorted(got) {
		t.Errorf("delivered out of order: %v", got)
	}
	if n := bytes.Load(); n != 60_000_002 {
		t.Errorf("%d bytes came, want 60,000,002", n)
	}
	eventually(t, "the small ones come", func() bool { return small.count() == 2 })
}

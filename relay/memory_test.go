package relay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// counter is a destination that keeps nothing of what it gets, and holds it for as long as it is told.
type counter struct {
	answer func(ctx context.Context, d *sinks.Delivery) error
	lanes  int
	n      atomic.Int64 // accepted
	bytes  atomic.Int64
}

var _ sinks.Sink = (*counter)(nil)

// Deliver implements sinks.Sink.
func (c *counter) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	for i := range batch {
		if c.answer != nil {
			outcomes[i] = c.answer(ctx, &batch[i])
		}
		if outcomes[i] == nil {
			c.n.Add(1)
			c.bytes.Add(int64(len(batch[i].Payload)))
		}
	}
}

// Limits implements sinks.Sink.
func (c *counter) Limits() sinks.Limits { return sinks.Limits{Lanes: c.lanes, Batch: 16} }

// Close implements sinks.Sink.
func (c *counter) Close() error { return nil }

// mute never answers; after its timeout the destination counts as down.
func mute(timeout time.Duration) func(context.Context, *sinks.Delivery) error {
	return func(ctx context.Context, _ *sinks.Delivery) error {
		async.Sleep(ctx, timeout)
		return sinks.Unavailable(errors.New("no answer"), 0)
	}
}

// destinations makes subscriptions to the topics whose destinations are counters.
func (b *bench) destinations(prefix, topics string, n int, settings string, answer func(context.Context, *sinks.Delivery) error) []*counter {
	b.t.Helper()
	all := make([]*counter, n)
	for i := range all {
		all[i] = &counter{answer: answer, lanes: 8}
		b.mu.Lock()
		if b.counted == nil {
			b.counted = make(map[string]*counter)
		}
		b.counted[fmt.Sprintf("%s-%d", prefix, i)] = all[i]
		b.mu.Unlock()
	}
	b.Exec(`SELECT postrider.subscribe($1 || '-' || i, $2::text::text[], 'record:', $3::text::jsonb) FROM generate_series(0, $4::int - 1) i`, prefix, topics, settings, n)
	return all
}

func (b *bench) counting(c *Config) {
	c.Open = func(_ context.Context, s subscription.Subscription) (sinks.Sink, error) {
		return b.counted[s.Name], nil
	}
}

// liveBytes is what the heap holds after a collection.
func liveBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func inMB(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// peakOf returns how much more the heap held at most, than before, while f ran.
func peakOf(f func()) int64 {
	before := liveBytes()
	var peak int64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for async.Sleep(ctx, 50*time.Millisecond) { // what is too much stays too much for longer; collections cost a processor
			peak = max(peak, liveBytes()-before)
		}
	}()
	f()
	cancel()
	<-done
	return peak
}

// Memory is bounded by the setting whatever the messages and destinations are like, and whoever has a destination that works gets
// its messages meanwhile. (The tests take turns: the heap is theirs.)
func TestMemory(t *testing.T) {
	const limit = 16 << 20
	large := `to_jsonb(repeat('payload ', 125000))` // 1 MB, of which 12 kB are stored
	insert := func(b *bench, n int, topic, columns, values string) {
		b.Exec(fmt.Sprintf(`INSERT INTO postrider.outbox (topic, %s) SELECT $1, %s FROM generate_series(1, $2::int)`, columns, values), topic, n)
	}
	for _, c := range []struct {
		name string
		most int64
		play func(t *testing.T, b *bench, start func())
	}{
		{"many mute destinations", 2 * limit, func(t *testing.T, b *bench, start func()) {
			b.destinations("mute", "{large}", 150, "{}", mute(time.Second))
			good := b.destinations("good", "{large}", 1, "{}", nil)[0]
			insert(b, 42, "large", "payload", large)
			start()
			// Whoever has shown nothing yet shares what is left with those that are mute, for some times their second.
			eventuallyIn(t, 30*time.Second, "the one that works gets all", func() bool { return good.n.Load() == 42 })
		}},
		{"many mute destinations, live", 2 * limit, func(t *testing.T, b *bench, start func()) {
			b.destinations("mute", "{large}", 150, "{}", mute(time.Second))
			good := b.destinations("good", "{large,first}", 1, "{}", nil)[0]
			start()
			insert(b, 1, "first", "payload", "'1'")
			eventually(t, "the one that works is live", func() bool { return good.n.Load() == 1 })
			insert(b, 42, "large", "payload", large)
			eventually(t, "the one that works gets all", func() bool { return good.n.Load() == 43 })
		}},
		{"bodies larger than the limit", limit + 66<<20, func(t *testing.T, b *bench, start func()) {
			all := b.destinations("all", "{>}", 3, "{}", nil)
			start()
			for _, size := range []int{15, 15, 60} {
				insert(b, 1, "body", "body", fmt.Sprintf(`decode(repeat('00ff', %d), 'hex')`, size*500_000))
			}
			eventually(t, "all get all", func() bool {
				return all[0].bytes.Load() == 90e6 && all[1].bytes.Load() == 90e6 && all[2].bytes.Load() == 90e6
			})
		}},
		{"one transaction of rows that are not small", 2 * limit, func(t *testing.T, b *bench, start func()) {
			all := b.destinations("all", "{>}", 10, "{}", nil)
			start()
			insert(b, 1, "first", "payload", "'1'")
			eventually(t, "all are live", func() bool { return all[9].n.Load() == 1 && all[0].n.Load() == 1 })
			insert(b, 300, "row", "body", `decode(repeat('00ff', 15000), 'hex')`)
			eventually(t, "all get all", func() bool {
				for _, c := range all {
					if c.n.Load() != 301 {
						return false
					}
				}
				return true
			})
		}},
		{"retries", 2 * limit, func(t *testing.T, b *bench, start func()) {
			var down atomic.Bool
			down.Store(true)
			all := b.destinations("all", "{large}", 10, `{"backoff_initial": "10ms", "backoff_max": "10ms", "max_attempts": 1000000}`, func(_ context.Context, d *sinks.Delivery) error {
				if down.Load() && d.ID%2 == 0 {
					return sinks.Retryable(errors.New("not now"), 0)
				}
				return nil
			})
			insert(b, 30, "large", "payload", large)
			start()
			eventually(t, "retries are under way", func() bool {
				return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE attempts > 2") > 20
			})
			down.Store(false)
			eventually(t, "all are delivered", func() bool {
				for _, c := range all {
					if c.n.Load() != 30 {
						return false
					}
				}
				return true
			})
		}},
		{"a few large among many small", 2 * limit, func(t *testing.T, b *bench, start func()) {
			few := b.destinations("large", "{large}", 10, "{}", nil)
			many := b.destinations("small", "{small}", 200, "{}", nil)
			insert(b, 20, "large", "payload", large)
			insert(b, 100, "small", "payload", `to_jsonb(repeat('x', 1000))`)
			start()
			eventually(t, "all get all", func() bool {
				for i, c := range append(few[:len(few):len(few)], many...) {
					if n := c.n.Load(); i < len(few) && n != 20 || i >= len(few) && n != 100 {
						return false
					}
				}
				return true
			})
		}},
	} {
		for _, follow := range []Follow{FollowTimer, FollowStream} {
			t.Run(c.name+"/"+string(follow), func(t *testing.T) {
				b := newBench(t)
				b.unbound()
				var run *running
				var used int64
				peak := peakOf(func() {
					c.play(t, b, func() {
						run = b.start(b.counting, func(c *Config) { c.Follow, c.MemoryLimit = follow, limit })
					})
					shelf := run.now.Load().passes.Shelf
					run.stop()
					used = shelf.Lent()
				})
				if peak > c.most {
					t.Errorf("%s of messages were held at most, want %s", inMB(peak), inMB(c.most))
				}
				if used != 0 {
					t.Errorf("%d bytes were not given back", used)
				}
				t.Logf("%s at most", inMB(peak))
			})
		}
	}
}

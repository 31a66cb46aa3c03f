package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/relay/wal"
	"github.com/postrider/postrider/relay/wal/waltest"
	"github.com/postrider/postrider/sinks"
)

// accepting is a destination that takes everything at once.
type accepting struct{ n atomic.Int64 }

var _ sinks.Sink = (*accepting)(nil)

// Deliver implements sinks.Sink.
func (s *accepting) Deliver(_ context.Context, batch []sinks.Delivery, _ []error) {
	s.n.Add(int64(len(batch)))
}

// Limits implements sinks.Sink.
func (s *accepting) Limits() sinks.Limits { return sinks.Limits{} }

// Close implements sinks.Sink.
func (s *accepting) Close() error { return nil }

// benchFeed is a feed without a database.
func benchFeed() (*feed, *budget) {
	c := &Config{Logger: slog.New(slog.DiscardHandler), MemoryLimit: 1 << 30}
	f := newFeed(c, newMetrics(nil), "", "source", nil)
	return f, &budget{limit: 1 << 30}
}

// addLive attaches a queue with the patterns.
func addLive(b *testing.B, f *feed, share *budget, wake func(), patterns ...string) *queue {
	match, err := topic.NewMatcher(patterns)
	if err != nil {
		b.Fatal(err)
	}
	q := f.newQueue(match, share, wake)
	f.attach(q)
	f.closeAt(snapshot.Snapshot{Xmax: 10})
	return q
}

// closeAt makes a tick that finds nothing.
func (f *feed) closeAt(s snapshot.Snapshot) {
	f.begin(time.Now())
	f.core.took(time.Now(), &answer{tick: store.Tick{Snapshot: s}})
}

// One message: that many subscriptions want it of those that are live.
func BenchmarkDispatchTo(b *testing.B) {
	for _, c := range []struct{ live, wanting int }{{1, 1}, {10, 10}, {1000, 1}, {1000, 1000}} {
		b.Run(fmt.Sprintf("%dof%d", c.wanting, c.live), func(b *testing.B) {
			f, share := benchFeed()
			var queues []*queue
			for i := range c.live {
				pattern := fmt.Sprintf("other.t%d", i)
				if i < c.wanting {
					pattern = "bench.t1"
				}
				queues = append(queues, addLive(b, f, share, func() {}, pattern))
			}
			r := &message.Row{XID: 11}
			r.Topic = "bench.t1"
			rows := []*message.Row{r}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				f.core.out.dispatch(rows, f.core.win.win)
				if n++; n%64 == 0 {
					for _, q := range queues[:c.wanting] {
						q.take(64)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.wanting), "ns/delivery")
		})
	}
}

// A message of a topic that was not seen since subscriptions last came or went, among a thousand of them.
func BenchmarkRouteUnknownTopic(b *testing.B) {
	f, share := benchFeed()
	for i := range 1000 {
		addLive(b, f, share, func() {}, fmt.Sprintf("orders.n%d.>", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(f.core.out.routes)
		if len(f.core.out.route("orders.n500.created")) != 1 {
			b.Fatal("not one subscription matches")
		}
	}
}

// benchRunner is a live runner on the feed.
func benchRunner(b *testing.B, f *feed, share *budget, ordering subscription.Ordering, n, batch int) *runner {
	match, err := topic.NewMatcher([]string{">"})
	if err != nil {
		b.Fatal(err)
	}
	s := subscription.Subscription{Name: "bench", Settings: subscription.Settings{Ordering: ordering}}
	s.Settings = s.Settings.WithDefaults()
	r := newRunner(environment{
		sub: s, sink: &accepting{}, feed: f, budget: share, log: f.log, metrics: f.metrics.runner("bench"),
		save: func() {}, pause: func(string) {}, parked: func(string) {},
	}, &filter{current: match}, sinks.Limits{Lanes: n, Batch: batch})
	ctx, cancel := context.WithCancel(b.Context())
	r.life.deliver, r.life.giveUp = ctx, cancel
	r.life.reading, r.life.unread = context.WithCancel(ctx)
	r.intake.live.queue = addLive(b, f, share, r.life.wake, ">")
	b.Cleanup(func() {
		for _, l := range r.lanes.all {
			l.close()
			l.done.Wait()
		}
		cancel()
		r.life.unread()
	})
	return r
}

// settleAll steps until all that the feed has dispatched is settled.
func settleAll(r *runner) {
	for {
		r.step(time.Now())
		if r.lanes.tasks == 0 && r.intake.live.queue.first() == nil {
			return
		}
		<-r.life.wakeup
	}
}

// One message from the stream's buffer to settled progress, without socket, database and sink: decoded, held, dispatched, queued,
// admitted, batched, handed over to a lane and back. Of each round the lanes are handed that many messages.
func BenchmarkLivePath(b *testing.B) {
	for _, c := range []struct {
		ordering            subscription.Ordering
		keys                int
		lanes, batch, round int
	}{
		{subscription.OrderByKey, 0, 4, 256, 1}, {subscription.OrderByKey, 0, 4, 256, 100}, {subscription.OrderByKey, 0, 4, 256, 2000},
		{subscription.OrderByKey, 1000, 4, 256, 1}, {subscription.OrderByKey, 1000, 4, 256, 100}, {subscription.OrderByKey, 1000, 4, 256, 2000},
		{subscription.OrderByKey, 0, 64, 1, 100},
	} {
		b.Run(fmt.Sprintf("keys=%d/lanes=%d/batch=%d/round=%d", c.keys, c.lanes, c.batch, c.round), func(b *testing.B) {
			benchLive(b, c.ordering, c.keys, c.lanes, c.batch, c.round)
		})
	}
}

func benchLive(b *testing.B, ordering subscription.Ordering, keys, lanes, batch, round int) {
	f, share := benchFeed()
	stream, backlog := streamBench(b)
	f.core.backlog = backlog
	r := benchRunner(b, f, share, ordering, lanes, batch)
	begin, commit := waltest.Frame(0, waltest.Begin(time.Time{})), waltest.Frame(0, waltest.Commit())
	inserts := make([][]byte, max(keys, 1))
	for i := range inserts {
		key := ""
		if keys > 0 {
			key = fmt.Sprintf("customer-%d", i)
		}
		inserts[i] = benchInsert(key)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		insert := inserts[n%len(inserts)]
		waltest.Renumber(insert, int64(n+1), uint64(100+n))
		for _, m := range [][]byte{begin, insert, commit} {
			if err := stream.Take(m); err != nil {
				b.Fatal(err)
			}
		}
		if n++; n%round > 0 {
			continue
		}
		all := snapshot.Snapshot{Xmax: uint64(100 + n)}
		f.core.takeVisible(all)
		settleAll(r)
		if len(f.core.win.dispatched) >= closeRows {
			f.core.close(time.Now(), all)
			r.intake.advance()
		}
	}
	b.StopTimer()
	if got := r.env.sink.(*accepting).n.Load(); got != int64(n/round*round) {
		b.Fatalf("%d of %d messages were delivered", got, n)
	}
}

// benchPayload is a payload of 200 bytes.
var benchPayload = `{"n": 1, "pad": "` + strings.Repeat("x", 181) + `"}`

// benchInsert is a framed insertion.
func benchInsert(key string) []byte {
	r := &message.Row{XID: 99}
	r.ID, r.CreatedAt, r.Topic, r.Key, r.Payload = 1, time.Unix(1_800_000_000, 0), "bench.t1", key, []byte(benchPayload)
	return waltest.Frame(0, waltest.Insert(r))
}

// streamBench is the reading end of a stream without a connection.
func streamBench(b *testing.B) (*wal.Assembler, *wal.Backlog) {
	h := wal.NewBacklog(1 << 30)
	h.Restart()
	a := wal.NewAssembler(message.NewDecoder("source"), h)
	if err := a.Take(waltest.Frame(0, waltest.Relation())); err != nil {
		b.Fatal(err)
	}
	return a, h
}

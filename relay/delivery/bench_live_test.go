package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/feed"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
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

// acceptingSingly is one that takes them one by one.
type acceptingSingly struct{ accepting }

var _ sinks.SinkSender = (*acceptingSingly)(nil)

// Send implements sinks.Sender.
func (s *acceptingSingly) Send(_ context.Context, _ sinks.Delivery, done func(error)) {
	s.n.Add(1)
	done(nil)
}

// Limits implements sinks.Sink.
func (s *accepting) Limits() sinks.Limits { return sinks.Limits{} }

// Close implements sinks.Sink.
func (s *accepting) Close() error { return nil }

// benchFeed is a feed without a database.
func benchFeed() (*feed.Feed, *queue.Budget) {
	c := quietFeed(1 << 30)
	c.BusyRate = 1e12 // nothing outruns a stream that is not one
	f := feed.New(c)
	return f, &queue.Budget{Limit: 1 << 30}
}

// addLive attaches a queue with the patterns.
func addLive(b testing.TB, f *feed.Feed, share *queue.Budget, wake func(), patterns ...string) *queue.Queue {
	match, err := topic.NewMatcher(patterns)
	if err != nil {
		b.Fatal(err)
	}
	q := f.NewQueue(match, share, wake)
	f.Attach(q)
	closeAt(b, f, snapshot.Snapshot{Xmax: 10})
	return q
}

// closeAt makes a tick that finds nothing.
func closeAt(b testing.TB, f *feed.Feed, s snapshot.Snapshot) { tickOf(b, f, &stillServer{s}) }

func tickOf(b testing.TB, f *feed.Feed, s feed.Server) {
	now := time.Now()
	for a := f.Begin(now); !a.Over(); a, _ = f.Took(now) {
		if err := f.Put(context.Background(), s, &a); err != nil {
			b.Fatal(err)
		}
	}
}

// stillServer is one without rows.
type stillServer struct{ at snapshot.Snapshot }

var _ feed.Server = (*stillServer)(nil)

func (*stillServer) UseUpID(context.Context) error { return nil }

func (s *stillServer) Tick(context.Context) (snapshot.Snapshot, pglogrepl.LSN, error) {
	return s.at, 0, nil
}

func (s *stillServer) ReadWindow(context.Context, snapshot.Snapshot, bool, func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error) {
	return s.at, 0, nil
}

func (s *stillServer) CountWindow(context.Context, snapshot.Snapshot, map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error) {
	return s.at, 0, nil
}

func (*stillServer) WindowTopics(context.Context, snapshot.Snapshot, snapshot.Snapshot) ([]string, error) {
	return nil, nil
}

func (*stillServer) ReadTransactions(context.Context, []uint64, bool, func(*message.Row) error) error {
	return nil
}

func (*stillServer) TransactionTopics(context.Context, []uint64) ([]string, error) { return nil, nil }

func (*stillServer) Close() {}

// benchRunner is a live runner on the feed.
func benchRunner(b testing.TB, f *feed.Feed, share *queue.Budget, ordering subscription.Ordering, n, batch int) *Runner {
	return benchRunnerTo(b, &accepting{}, f, share, ordering, sinks.Limits{Lanes: n, Batch: batch})
}

func benchRunnerTo(b testing.TB, to sinks.Sink, f *feed.Feed, share *queue.Budget, ordering subscription.Ordering, limits sinks.Limits) *Runner {
	match, err := topic.NewMatcher([]string{">"})
	if err != nil {
		b.Fatal(err)
	}
	s := subscription.Subscription{Name: "bench", Settings: subscription.Settings{Ordering: ordering}}
	s.Settings = s.Settings.WithDefaults()
	r := New(Environment{
		Sub: s, Sink: to, Feed: f, Budget: share, Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(nil, nil).Runner("bench"),
		Save: func() {}, Pause: func(string) {},
	}, &Filter{current: match}, limits)
	ctx, cancel := context.WithCancel(b.Context())
	r.Life.deliver, r.Life.giveUp = ctx, cancel
	r.Life.reading, r.Life.unread = context.WithCancel(ctx)
	r.intakes[0].live.queue = addLive(b, f, share, r.Life.Wake, ">")
	b.Cleanup(func() {
		for _, l := range r.lanes.all {
			l.close()
			l.done.Wait()
		}
		cancel()
		r.Life.unread()
	})
	return r
}

// taken is how many messages the destination has taken.
func taken(r *Runner) int64 {
	if s, ok := r.Env.Sink.(*acceptingSingly); ok {
		return s.n.Load()
	}
	return r.Env.Sink.(*accepting).n.Load()
}

// settleAll steps until all that the feed has dispatched is settled.
func settleAll(r *Runner) {
	for {
		r.step(time.Now())
		if r.lanes.tasks == 0 && r.intakes[0].live.queue.First() == nil {
			return
		}
		<-r.Life.wakeup
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
			benchLive(b, &accepting{}, c.ordering, c.keys, c.lanes, c.batch, c.round)
		})
	}
	for _, keys := range []int{0, 1000} {
		b.Run(fmt.Sprintf("keys=%d/one by one/round=2000", keys), func(b *testing.B) {
			benchLive(b, &acceptingSingly{}, subscription.OrderByKey, keys, 1000, 1, 2000)
		})
	}
}

func benchLive(b *testing.B, to sinks.Sink, ordering subscription.Ordering, keys, lanes, batch, round int) {
	f, share := benchFeed()
	stream := wal.NewAssembler(message.NewDecoder("0123abcd"), f.Backlog)
	f.Backlog.Connect(func() {})
	if err := stream.Take(waltest.Frame(0, waltest.Relation())); err != nil {
		b.Fatal(err)
	}
	r := benchRunnerTo(b, to, f, share, ordering, sinks.Limits{Lanes: lanes, Batch: batch})
	for !f.Streaming() {
		closeAt(b, f, snapshot.Snapshot{Xmax: 10})
	}
	begin, commit := waltest.Frame(0, waltest.Begin(time.Time{})), waltest.Frame(0, waltest.Commit())
	inserts := make([][]byte, max(keys, 1))
	for i := range inserts {
		key := ""
		if keys > 0 {
			key = fmt.Sprintf("customer-%d", i)
		}
		inserts[i] = benchInsert(key)
	}
	still := new(stillServer)
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
		closed := f.Closed().N
		still.at = all
		tickOf(b, f, still)
		settleAll(r)
		if f.Closed().N > closed {
			r.intakes[0].advance()
		}
	}
	b.StopTimer()
	if got := taken(r); got != int64(n/round*round) {
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

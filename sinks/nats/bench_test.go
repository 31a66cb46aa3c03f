package natssink

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// Each benchmark counts one message as one operation. Its server runs in the same process: the difference to the bare loops
// is the sink's.

var benchPayload = `{"customer": "c-42", "total": 12.50, "note": "` + strings.Repeat("x", 150) + `"}`

func BenchmarkJetStream(b *testing.B) { drain(b, Config{}) }

func BenchmarkCore(b *testing.B) { drain(b, Config{Core: true}) }

// BenchmarkShape looks for the lanes and batches that pay.
func BenchmarkShape(b *testing.B) {
	for _, shape := range [][2]int{{1, 512}, {1, 2048}, {2, 512}, {2, 1024}, {4, 128}, {4, 256}, {4, 512}, {4, 1024}, {8, 256}, {8, 512}} {
		b.Run(strconv.Itoa(shape[0])+"x"+strconv.Itoa(shape[1]), func(b *testing.B) {
			drain(b, Config{Lanes: shape[0], Batch: shape[1], MaxPending: shape[0] * shape[1]})
		})
	}
}

func benchServer(b *testing.B) string {
	srv := startServer(b, nil)
	_, js := client(b, srv)
	addStream(b, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"js.>"}})
	return srv.ClientURL()
}

// drain delivers full batches over all lanes.
func drain(b *testing.B, cfg Config) {
	cfg.Servers, cfg.Prefix = []string{benchServer(b)}, "js."
	if cfg.Core {
		cfg.Prefix = "core."
	}
	s := open(b, cfg)
	var rows atomic.Int64
	measured(b, func() {
		var wg sync.WaitGroup
		for range s.Limits().Lanes {
			wg.Go(func() {
				batch, outcomes := newBenchBatch(s.Limits().Batch)
				for size := int64(len(batch)); ; {
					last := rows.Add(size)
					if n := min(size, size-last+int64(b.N)); n <= 0 || !oneBatch(b, s, batch[:n], outcomes[:n], last-size) {
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func newBenchBatch(n int) ([]sinks.Delivery, []error) {
	batch := make([]sinks.Delivery, n)
	for i := range batch {
		batch[i] = sinktest.NewDelivery("orders.created", benchPayload)
	}
	return batch, make([]error, n)
}

func oneBatch(b *testing.B, s *Sink, batch []sinks.Delivery, outcomes []error, first int64) bool {
	for i := range batch {
		batch[i].MessageID = strconv.FormatInt(first+int64(i), 10)
	}
	s.Deliver(b.Context(), batch, outcomes)
	for _, err := range outcomes {
		if err != nil {
			b.Error(err)
			return false
		}
	}
	return true
}

// BenchmarkOne delivers one message at a time.
func BenchmarkOne(b *testing.B) {
	s := open(b, Config{Servers: []string{benchServer(b)}, Prefix: "js."})
	batch, outcomes := newBenchBatch(1)
	took := make([]time.Duration, b.N)
	measured(b, func() {
		for i := range took {
			start := time.Now()
			if !oneBatch(b, s, batch, outcomes, int64(i)) {
				return
			}
			took[i] = time.Since(start)
		}
	})
	reportMedian(b, took)
}

// BenchmarkBareOne publishes one message at a time and waits for its acknowledgement, with nothing around it.
func BenchmarkBareOne(b *testing.B) {
	nc, m := bareClient(b)
	m.Reply = nc.NewInbox()
	acks := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe(m.Reply, acks); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, b.N)
	measured(b, func() {
		for i := range took {
			start := time.Now()
			m.Header[jetstream.MsgIDHeader][0] = strconv.Itoa(i)
			if err := nc.PublishMsg(m); err != nil {
				b.Fatal(err)
			}
			<-acks
			took[i] = time.Since(start)
		}
	})
	reportMedian(b, took)
}

// BenchmarkBare publishes with message ids and counts the acknowledgements: the least that a client can do.
func BenchmarkBare(b *testing.B) {
	const outstanding = 4000
	nc, m := bareClient(b)
	m.Reply = nc.NewInbox()
	slots := make(chan struct{}, outstanding)
	sub, err := nc.Subscribe(m.Reply, func(*nats.Msg) { <-slots })
	if err != nil {
		b.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		b.Fatal(err)
	}
	measured(b, func() {
		for i := range b.N {
			slots <- struct{}{}
			m.Header[jetstream.MsgIDHeader][0] = strconv.Itoa(i)
			if err := nc.PublishMsg(m); err != nil {
				b.Fatal(err)
			}
		}
		for range outstanding { // All slots are free when all acknowledgements have come.
			slots <- struct{}{}
		}
	})
}

// BenchmarkBareAsync is the client library's own pipelined publish.
func BenchmarkBareAsync(b *testing.B) {
	nc, m := bareClient(b)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	measured(b, func() {
		for i := range b.N {
			each := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{jetstream.MsgIDHeader: {strconv.Itoa(i)}}}
			if _, err := js.PublishMsgAsync(each, jetstream.WithStallWait(time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	})
}

func bareClient(b *testing.B) (*nats.Conn, *nats.Msg) {
	nc, err := nats.Connect(benchServer(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc, &nats.Msg{Subject: "js.orders.created", Data: []byte(benchPayload), Header: nats.Header{jetstream.MsgIDHeader: {""}}}
}

// measured reports the rate, and the CPU time of everything in this process.
func measured(b *testing.B, run func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	run()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportMedian(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}

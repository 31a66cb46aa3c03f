package natssink

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func BenchmarkJetStream(b *testing.B) { bench(b, Config{}) }

func BenchmarkCore(b *testing.B) { bench(b, Config{Core: true}) }

// bench counts one message as one operation, in full batches over all lanes.
func bench(b *testing.B, cfg Config) {
	srv := startServer(b, nil)
	_, js := client(b, srv)
	addStream(b, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"js.>"}})
	cfg.Servers, cfg.Prefix = []string{srv.ClientURL()}, "js."
	if cfg.Core {
		cfg.Prefix = "core."
	}
	s := open(b, cfg)
	batches := int64(b.N/s.Limits().Batch + 1)
	var next, rows atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range s.Limits().Lanes {
		wg.Go(func() {
			batch := make([]sinks.Delivery, s.Limits().Batch)
			for i := range batch {
				batch[i] = sinktest.NewDelivery("orders.created", `{"customer": "c-42", "total": 12.50}`)
			}
			for next.Add(1) <= batches {
				for i := range batch {
					batch[i].ID = fmt.Sprintf("bench-%d", rows.Add(1))
				}
				for _, err := range deliver(b, s, batch...) {
					if err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(rows.Load())/b.Elapsed().Seconds(), "msg/s")
}

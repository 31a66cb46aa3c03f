package webhook

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// BenchmarkDeliver is a receiver that answers at once, and one that takes its time.
func BenchmarkDeliver(b *testing.B) {
	for _, takes := range []time.Duration{0, 2 * time.Millisecond} {
		srv := serve(b, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			if takes > 0 {
				time.Sleep(takes)
			}
			w.WriteHeader(http.StatusNoContent)
		})
		for _, lanes := range []int{16, 64} {
			for _, concurrency := range []string{ConcurrencyFixed, ConcurrencyAdaptive} {
				b.Run(fmt.Sprintf("takes=%v/lanes=%d/%s", takes, lanes, concurrency), func(b *testing.B) {
					benchDeliver(b, Config{URL: srv.URL, Lanes: lanes, Options: Options{Concurrency: concurrency}})
				})
			}
		}
	}
}

func benchDeliver(b *testing.B, cfg Config) {
	s := open(b, cfg)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var lanes sync.WaitGroup
	for range cfg.Lanes {
		lanes.Go(func() {
			batch := []sinks.Delivery{sinktest.NewDelivery("orders.created", `{"customer": "c-42", "total": 12.50}`)}
			outcomes := make([]error, 1)
			for left.Add(-1) >= 0 {
				if s.Deliver(b.Context(), batch, outcomes); outcomes[0] != nil {
					b.Error(outcomes[0])
					return
				}
			}
		})
	}
	lanes.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkRequest is the work for one attempt before it goes on the wire.
func BenchmarkRequest(b *testing.B) {
	private, _ := keyPair(b)
	payload := `{"customer": "c-42", "total": 12.50, "note": "` + strings.Repeat("x", 200) + `"}`
	for _, c := range []struct{ name, format, secrets string }{
		{"unsigned", FormatRaw, ""},
		{"v1", FormatRaw, sampleSecret},
		{"v1+v1", FormatRaw, sampleSecret + " " + encodeSecret("whsec_", 32)},
		{"v1a", FormatRaw, private},
		{"binary+v1", FormatBinary, sampleSecret},
		{"structured+v1", FormatStructured, sampleSecret},
	} {
		b.Run(c.name, func(b *testing.B) {
			o := Options{Format: c.format}
			if c.secrets != "" {
				b.Setenv("POSTRIDER_TEST_SECRET", c.secrets)
				o.Secrets = []string{"env:POSTRIDER_TEST_SECRET"}
			}
			s := open(b, Config{URL: "http://host.invalid", Options: o})
			d := sinktest.NewDelivery("orders.created", payload)
			d.Key, d.Headers = "customer-42", []byte(`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`)
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.messageRequest(&d)
				if err != nil {
					b.Fatal(err)
				}
				s.stamp(r, time.Now())
				s.free(r)
			}
		})
	}
}

package webhook

import (
	"io"
	"net/http"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func BenchmarkDeliver(b *testing.B) {
	srv := serve(b, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	s := open(b, Config{URL: srv.URL})
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		batch := []sinks.Delivery{sinktest.NewDelivery("orders.created", `{"customer": "c-42", "total": 12.50}`)}
		outcomes := make([]error, 1)
		for pb.Next() {
			s.Deliver(b.Context(), batch, outcomes)
			if outcomes[0] != nil {
				b.Error(outcomes[0])
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

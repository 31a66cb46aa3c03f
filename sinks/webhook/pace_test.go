package webhook

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/pacing"
	"github.com/postrider/postrider/sinks/sinktest"
)

// What may come from too many requests is trouble; what is an answer to a message is none.
func TestTroubleOfTheDestination(t *testing.T) {
	for status, want := range map[int]bool{0: true, 500: true, 503: true, 504: true, 599: true, 429: true, 408: true,
		204: false, 302: false, 400: false, 404: false, 409: false, 422: false} {
		if got := overloaded(status); got != want {
			t.Errorf("status %d is taken for trouble: %t, want %t", status, got, want)
		}
	}
}

// An endpoint that asks for a rest gets no request from those that wait already.
func TestRestIsKept(t *testing.T) {
	var requests atomic.Int32
	arrived, answer := make(chan struct{}, 16), make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		arrived <- struct{}{}
		<-answer
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(429)
	})
	s := open(t, Config{URL: srv.URL, Lanes: 16})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
			sinktest.WantKinds(t, out, sinks.KindUnavailable)
			if _, after := sinks.Classify(out[0]); after != 30*time.Second {
				t.Errorf("the outcome asks for %v, want 30s", after)
			}
		})
	}
	for range pacing.First {
		<-arrived
	}
	for deadline := time.Now().Add(sinktest.Patience); s.flow.Waiting() < 16-pacing.First; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want all that were not sent", s.flow.Waiting()) // one that comes later is a probe
		}
	}
	close(answer)
	wg.Wait()
	if n := requests.Load(); n != pacing.First {
		t.Errorf("%d requests to an endpoint that asks for a rest, want %d", n, pacing.First)
	}
}

// A batch is one request.
func TestRateOfRequests(t *testing.T) {
	r := new(receiver)
	srv := serve(t, http.HandlerFunc(r.ServeHTTP))
	s := open(t, Config{URL: srv.URL, Options: Options{Rate: 20, Burst: 1, Format: FormatBatch}})
	start := time.Now()
	for range 3 {
		out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("a", "2"), sinktest.NewDelivery("a", "3"))
		sinktest.WantKinds(t, out, sinks.KindAccepted, sinks.KindAccepted, sinks.KindAccepted)
	}
	if took := time.Since(start); took < 95*time.Millisecond {
		t.Errorf("3 requests within %v, at 20 per second", took)
	}
}

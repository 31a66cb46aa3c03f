package webhook

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestConnectionsAreKept(t *testing.T) {
	const lanes, rounds = 4, 10
	var conns atomic.Int32
	arrived, answer := make(chan struct{}), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		w.WriteHeader(500)
		_, _ = w.Write(make([]byte, 60<<10)) // More than the snippet, less than the drain's bound.
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := open(t, Config{URL: srv.URL, Lanes: lanes, Options: Options{Concurrency: ConcurrencyFixed}})
	for range rounds { // All lanes are busy at once, then idle at once.
		var wg sync.WaitGroup
		for range lanes {
			wg.Go(func() { sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")) })
		}
		for range lanes {
			<-arrived
		}
		for range lanes {
			answer <- struct{}{}
		}
		wg.Wait()
	}
	if n := conns.Load(); n > lanes {
		t.Errorf("%d requests took %d connections, want at most %d", lanes*rounds, n, lanes)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	const lanes = 2
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(new(receiver))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := open(t, Config{URL: srv.URL, Lanes: lanes})
	var wg sync.WaitGroup
	for range 8 * lanes {
		wg.Go(func() {
			for range 20 {
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
			}
		})
	}
	wg.Wait()
	if n := conns.Load(); n > lanes {
		t.Errorf("%d connections, want at most %d", n, lanes)
	}
}

// A destination that restarts closes connections that the sink still holds for good.
func TestStaleConnectionIsNoFailure(t *testing.T) {
	r := new(receiver)
	link := linktest.New(t, serve(t, r.ServeHTTP).Listener.Addr().String())
	s := open(t, Config{URL: "http://" + link.Addr()})
	for range 200 {
		link.Reset()
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	}
}

func TestBrokenConnectionIsTriedOnceMore(t *testing.T) {
	var requests atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			return
		}
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	})
	s := open(t, Config{URL: srv.URL})
	for i, want := range []sinks.Kind{sinks.KindAccepted, sinks.KindRetryable, sinks.KindRetryable} {
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), want)
		// The second goes over a kept connection, and again over a new one; the third starts with a new one.
		if n := int(requests.Load()); n != []int{1, 3, 4}[i] {
			t.Errorf("%d requests after message %d, want %d", n, i, []int{1, 3, 4}[i])
		}
	}
}

func TestEndlessBodyIsCutOff(t *testing.T) {
	sent := make(chan int, 1)
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		for n := 0; ; n += 8 << 10 {
			if _, err := w.Write(make([]byte, 8<<10)); err != nil {
				sent <- n
				return
			}
		}
	})
	s := open(t, Config{URL: srv.URL, Timeout: 2 * time.Second})
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	// What the sockets buffer comes on top of the bound.
	if n := <-sent; n > 32<<20 {
		t.Errorf("the receiver sent %d bytes before it was cut off", n)
	}
}

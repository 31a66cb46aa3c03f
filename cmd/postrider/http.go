package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness answers /readyz: by what prepares the relay at first, then by the relay itself.
type readiness struct{ ask atomic.Pointer[func() error] }

func (r *readiness) set(ask func() error) { r.ask.Store(&ask) }

func (r *readiness) err() error { return (*r.ask.Load())() }

func notYet(reason string) func() error {
	err := errors.New(reason)
	return func() error { return err }
}

// listen opens the port that a setting names. It returns nil if there shall be none.
func listen(setting, address string) (net.Listener, error) {
	if address == "" || address == "off" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w (off serves none)", setting, address, err)
	}
	return l, nil
}

// newHandler serves /healthz (200 while the process serves), /readyz (503 and the reason while deliveries do not advance) and
// /metrics.
func newHandler(ready *readiness, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready.err(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

// serveHTTP serves until ctx is cancelled.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, conns int) error {
	ctx, cancel := context.WithCancel(ctx)
	few := bound(l, conns)
	server := &http.Server{Handler: few.whileBusy(handler), ConnContext: few.remember, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close() // a client that does not let go is no reason to stay
		}
	}()
	err := server.Serve(few)
	cancel()
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

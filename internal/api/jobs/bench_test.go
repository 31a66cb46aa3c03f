package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
	"github.com/postrider/postrider/worker"
)

// BenchmarkDrain is jobs that do nothing through the hub, HTTP and the Go library, all in this process, without a relay and a database.
func BenchmarkDrain(b *testing.B) {
	hub := pull.NewHub(func() bool { return true }, func(pull.Lost) {}, slog.New(slog.DiscardHandler))
	s, err := hub.Open("bench", pull.Setup{WorkerTTL: time.Minute, AttemptTimeout: time.Minute}, 4096)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.(sinks.Lessor).Serve(nil, func(int64, error) {})
	h := New(hub, func(context.Context, ...string) *relay.Directory {
		return &relay.Directory{Me: "me", Places: map[string]relay.Place{"bench": {Scheme: "pull", Owner: "me"}}}
	})
	server := httptest.NewServer(h)
	defer server.Close()
	w, err := worker.New(worker.Pull(server.URL), worker.Config{Name: "bench", Concurrency: 1000, Logger: slog.New(slog.DiscardHandler),
		Routes: []worker.Route{{Subscription: "bench", Handle: func(context.Context, *worker.Job) error { return nil }}}})
	if err != nil {
		b.Fatal(err)
	}
	payload := []byte(fmt.Sprintf(`{"n": 12345, "pad": "%0180d"}`, 0))
	room := make(chan struct{}, 4096)
	var done atomic.Int64
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(b.Context())
	running := make(chan struct{})
	b.ResetTimer()
	go func() { defer close(running); w.Run(ctx) }()
	for i := range b.N {
		room <- struct{}{}
		m := &sinks.Message{ID: int64(i + 1), Topic: "bench.t1", JSON: true, Payload: payload, CreatedAt: time.Now(), Priority: 2}
		s.(sinks.Sender).Send(b.Context(), sinks.Delivery{Message: m, Subscription: "bench", Attempt: 1}, func(error) {
			<-room
			if done.Add(1) == int64(b.N) {
				close(ended)
			}
		})
	}
	<-ended
	b.StopTimer()
	stop()
	<-running
}

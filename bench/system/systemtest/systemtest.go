// Package systemtest shows that a system delivers what was enqueued, against a real PostgreSQL, NATS server and HTTP receiver.
package systemtest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/internal/natstest"
	"github.com/postrider/postrider/internal/pgtest"
)

const (
	backlog  = 300 // filled while nothing runs
	single   = 100 // then enqueued one by one
	inTens   = 100 // and ten a transaction
	messages = backlog + single + inTens
)

var destinations = []struct {
	name  string
	kind  system.Destination // for Supports
	start func(*testing.T) (system.Destination, *arrivals)
}{
	{"NATS", system.Destination{NATS: "nats:"}, toNATS},
	{"webhook", system.Destination{Webhook: "http:"}, toWebhook},
	{"nowhere", system.Destination{}, toNowhere},
}

// Main is for TestMain.
func Main(m *testing.M) {
	child.Run()
	pgtest.Main(m)
}

// AllArrive enqueues 500 messages with each system, in all ways there are, and waits until all have arrived.
func AllArrive(t *testing.T, systems []system.System) {
	for _, s := range systems {
		t.Run(s.Name(), func(t *testing.T) {
			if c, ok := s.(system.Checker); ok {
				if err := c.Check(t.Context()); err != nil {
					t.Skip(err)
				}
			}
			for _, d := range destinations {
				if s.Supports(d.kind) {
					t.Run(d.name, func(t *testing.T) { allArrive(t, s, d.start) })
				}
			}
		})
	}
}

func allArrive(t *testing.T, s system.System, start func(*testing.T) (system.Destination, *arrivals)) {
	to, got := start(t)
	db := pgtest.Empty(t)
	p := system.Place{Database: db.URL(), Dir: t.TempDir(), To: to, Log: t.Logf}
	if err := s.Install(t.Context(), p); err != nil { // which may compile it, or fetch packages
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := db.Conn(t)
	if err := s.Fill(ctx, conn, backlog); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	process, err := s.Start(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("process %d started in %v", process.PID(), time.Since(began))
	if counter, ok := process.(system.Counter); ok && got == nil {
		awaitCount(ctx, t, counter, backlog)
		enqueue(ctx, t, s, conn)
		awaitCount(ctx, t, counter, messages)
		return
	}
	got.await(ctx, t, backlog)
	enqueue(ctx, t, s, conn)
	got.await(ctx, t, messages)
	t.Logf("all arrived %v after the start", time.Since(began))
	got.check(t)
}

// enqueue enqueues what comes after the backlog.
func enqueue(ctx context.Context, t *testing.T, s system.System, conn *pgx.Conn) {
	t.Helper()
	var all []system.Message
	for n := int64(backlog + 1); n <= messages; n++ {
		all = append(all, system.Message{N: n, Topic: topicOf(n)})
	}
	batches := slices.Collect(slices.Chunk(all[:single], 1))
	batches = slices.AppendSeq(batches, slices.Chunk(all[single:], 10))
	for _, batch := range batches {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return s.Enqueue(ctx, tx, batch) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// topicOf changes within a batch of ten.
func topicOf(n int64) string {
	if n%4 == 0 {
		return "bench.t2"
	}
	return "bench.t1"
}

// awaitCount waits until exactly n were counted.
func awaitCount(ctx context.Context, t *testing.T, c system.Counter, n int64) {
	t.Helper()
	for {
		count, err := c.Count()
		switch {
		case err != nil:
			t.Fatal(err)
		case count == n:
			return
		case count > n:
			t.Fatalf("counted %d of %d messages", count, n)
		case ctx.Err() != nil:
			t.Fatalf("counted %d of %d messages in time", count, n)
		}
		time.Sleep(system.CountEvery) // polling, with the deadline of ctx
	}
}

// arrivals is what came to a destination.
type arrivals struct {
	mu     sync.Mutex
	times  map[int64]int // how often each message came
	more   chan struct{} // signalled by each new message
	broken []byte        // a payload without a number, or of another size
}

func newArrivals() *arrivals {
	return &arrivals{times: make(map[int64]int), more: make(chan struct{}, 1)}
}

func (a *arrivals) add(payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := system.Number(payload)
	a.times[n]++
	// jsonb puts a space after each colon and comma.
	if n == 0 || len(payload) < system.PayloadBytes || len(payload) > system.PayloadBytes+3 {
		a.broken = payload
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.times)
}

func (a *arrivals) await(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for a.count() < n {
		select {
		case <-a.more:
		case <-ctx.Done():
			t.Fatalf("%d of %d messages arrived in time", a.count(), n)
		}
	}
}

// check fails the test if something came that was not enqueued, or came broken.
func (a *arrivals) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		t.Errorf("a payload is not that of a message: %q", a.broken)
	}
	for n := range int64(messages) {
		if a.times[n+1] == 0 {
			t.Errorf("message %d did not arrive", n+1)
		}
	}
	if len(a.times) != messages {
		t.Errorf("%d different messages arrived instead of %d", len(a.times), messages)
	}
}

func toNowhere(*testing.T) (system.Destination, *arrivals) { return system.Destination{}, nil }

func toWebhook(t *testing.T) (system.Destination, *arrivals) {
	a := newArrivals()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/hook" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		a.add(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	return system.Destination{Webhook: receiver.URL + "/hook"}, a
}

func toNATS(t *testing.T) (system.Destination, *arrivals) {
	server, err := natstest.Start(t.Context(), natstest.Options{Servers: 1, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	stream := jetstream.StreamConfig{Name: "BENCH", Subjects: []string{"bench.>"}, Storage: jetstream.FileStorage}
	if err := server.CreateStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	a := newArrivals()
	if _, err := server.Conn().Subscribe("bench.>", func(m *nats.Msg) {
		if m.Header.Get(nats.MsgIdHdr) == "" {
			t.Error("a message has no id")
		}
		if n := system.Number(m.Data); n > backlog && m.Subject != topicOf(n) {
			t.Errorf("message %d came with the subject %s instead of %s", n, m.Subject, topicOf(n))
		}
		a.add(m.Data)
	}); err != nil {
		t.Fatal(err)
	}
	if err := server.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	return system.Destination{NATS: server.URL()}, a
}

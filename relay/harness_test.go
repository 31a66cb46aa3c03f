package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/internal/relaytest"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

const patience = relaytest.Patience

var (
	eventually   = relaytest.Eventually
	eventuallyIn = relaytest.EventuallyIn
	mend         = relaytest.Must
)

// scalar returns the result of a query with one value.
func scalar[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	return relaytest.Scalar[T](b.Database, sql, args...)
}

// bench is a database and any number of relays on it.
type bench struct {
	*relaytest.Database
	t *testing.T

	mu      sync.Mutex
	sinks   map[string]*actor
	counted map[string]*counter
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return benchOn(t, pgtest.New(t))
}

// benchOn makes a bench of a database that has been migrated.
func benchOn(t *testing.T, db *pgtest.DB) *bench {
	t.Helper()
	return &bench{Database: relaytest.New(t, db), t: t, sinks: make(map[string]*actor)}
}

// subscribe makes a subscription whose sink is the actor of the same name.
func (b *bench) subscribe(name, topics, settings, start string) *actor {
	b.t.Helper()
	b.Exec("SELECT postrider.subscribe($1, $2::text::text[], 'record:', $3::text::jsonb, $4)", name, topics, settings, start)
	return b.recorder(name)
}

func (b *bench) recorder(name string) *actor {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sinks[name] == nil {
		b.sinks[name] = newActor()
	}
	return b.sinks[name]
}

// running is a relay that a test runs.
type running struct {
	*Relay
	stop func() // in order; waits
	done chan struct{}
	err  error
}

func (b *bench) config() Config {
	return Config{
		Servers: Servers{DatabaseURL: b.DB.RoleURL(b.Role)}, SaveInterval: 50 * time.Millisecond, PollMax: 50 * time.Millisecond, Lease: time.Second,
		DrainTimeout: 5 * time.Second,
		Open: func(_ context.Context, s subscription.Subscription) (sinks.Sink, error) {
			if !strings.HasPrefix(s.Sink, "record:") {
				return nil, fmt.Errorf("sink %q: unknown scheme", s.Sink)
			}
			return b.recorder(s.Name).hire(), nil
		},
		Logger: slog.New(slog.NewTextHandler(testWriter{b.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

type testWriter struct{ t *testing.T }

// Write implements io.Writer.
func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// start runs a relay until the test ends or stop is called.
func (b *bench) start(change ...func(*Config)) *running {
	b.t.Helper()
	c := b.config()
	for _, f := range change {
		f(&c)
	}
	r, err := New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Relay: r, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		if run.err = r.Run(ctx); run.err != nil {
			b.t.Logf("run ended: %v", run.err)
		}
	}()
	run.stop = func() {
		cancel()
		<-run.done
	}
	b.t.Cleanup(run.stop)
	return run
}

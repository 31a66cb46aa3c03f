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
	"github.com/postrider/postrider/relay/internal/async"
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
	sinks   map[string]*recorder
	counted map[string]*counter
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return benchOn(t, pgtest.New(t))
}

// benchOn makes a bench of a database that has been migrated.
func benchOn(t *testing.T, db *pgtest.DB) *bench {
	t.Helper()
	return &bench{Database: relaytest.New(t, db), t: t, sinks: make(map[string]*recorder)}
}

// subscribe makes a subscription whose sink is the recorder of the same name.
func (b *bench) subscribe(name, topics, settings, start string) *recorder {
	b.t.Helper()
	b.Exec("SELECT postrider.subscribe($1, $2::text::text[], 'record:', $3::text::jsonb, $4)", name, topics, settings, start)
	return b.recorder(name)
}

func (b *bench) recorder(name string) *recorder {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sinks[name] == nil {
		b.sinks[name] = &recorder{changed: make(chan struct{}, 1), limits: sinks.Limits{Lanes: 4, Batch: 64}}
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
		DatabaseURL: b.DB.RoleURL(b.Role), SaveInterval: 50 * time.Millisecond, PollMax: 50 * time.Millisecond, Lease: time.Second,
		DrainTimeout: 5 * time.Second,
		Open: func(_ context.Context, s subscription.Subscription) (sinks.Sink, error) {
			if !strings.HasPrefix(s.Sink, "record:") {
				return nil, fmt.Errorf("sink %q: unknown scheme", s.Sink)
			}
			return b.recorder(s.Name), nil
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

// recorder is a destination in memory. By default it accepts everything.
type recorder struct {
	changed chan struct{}
	limits  sinks.Limits

	mu      sync.Mutex
	got     []sinks.Delivery
	calls   int
	outcome func(sinks.Delivery) error
	block   chan struct{} // if set, deliveries wait until it is closed
}

var _ sinks.Sink = (*recorder)(nil)

// Deliver implements sinks.Sink.
func (r *recorder) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	r.mu.Lock()
	block := r.block
	r.calls++
	r.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			for i := range outcomes {
				outcomes[i] = ctx.Err()
			}
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, d := range batch {
		if r.outcome != nil {
			outcomes[i] = r.outcome(d)
		}
		if outcomes[i] == nil {
			r.got = append(r.got, d)
		}
	}
	async.Signal(r.changed)
}

// Limits implements sinks.Sink.
func (r *recorder) Limits() sinks.Limits { return r.limits }

// Close implements sinks.Sink.
func (r *recorder) Close() error { return nil }

func (r *recorder) answer(f func(sinks.Delivery) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome = f
}

// hold makes deliveries that begin from now on wait until the channel is closed; nil: no longer.
func (r *recorder) hold(until chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.block = until
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// rows returns the row ids in the order of delivery.
func (r *recorder) rows() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]int64, len(r.got))
	for i, d := range r.got {
		ids[i] = d.ID
	}
	return ids
}

// payloads returns the payloads in the order of delivery.
func (r *recorder) payloads() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := make([]string, len(r.got))
	for i, d := range r.got {
		texts[i] = string(d.Payload)
	}
	return texts
}

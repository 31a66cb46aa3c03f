package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// patience is when a wait of a test is given up: it promises nothing, and is far beyond what a busy machine takes.
const patience = 30 * time.Second

// bench is a migrated database with roles of least privilege and any number of relays on it.
type bench struct {
	t     *testing.T
	db    *pgtest.DB
	admin *pgxpool.Pool
	app   *pgxpool.Pool
	role  string // the relay's

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
	b := &bench{t: t, db: db, sinks: make(map[string]*recorder)}
	b.admin = b.db.Pool(t)
	// The sinks of these tests are no kinds that anybody else knows.
	b.exec("DROP TRIGGER sink_is_known ON postrider.subscriptions")
	// The database was cloned from a template, which changed its oid.
	b.exec("UPDATE postrider.source SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())")
	app := b.db.Role(t, "app", "")
	b.role = b.db.Role(t, "relay", "REPLICATION")
	b.exec(migrations.AppGrants(app))
	b.exec(migrations.RelayGrants(b.role))
	pool, err := pgxpool.New(t.Context(), b.db.RoleURL(app))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b.app = pool
	return b
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	var err error
	if len(args) == 0 {
		_, err = b.admin.Exec(b.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	} else {
		_, err = b.admin.Exec(b.t.Context(), sql, args...)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// subscribe makes a subscription whose sink is the recorder of the same name.
func (b *bench) subscribe(name, topics, settings, start string) *recorder {
	b.t.Helper()
	b.exec("SELECT postrider.subscribe($1, $2::text::text[], 'record:', $3::text::jsonb, $4)", name, topics, settings, start)
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

// publish inserts messages, one transaction each, and returns their ids.
func (b *bench) publish(topic, key string, payloads ...string) []int64 {
	b.t.Helper()
	ids := make([]int64, len(payloads))
	for i, p := range payloads {
		err := b.app.QueryRow(b.t.Context(), "SELECT postrider.enqueue($1, $2::text::jsonb, nullif($3, ''))", topic, p, key).Scan(&ids[i])
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return ids
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
		DatabaseURL: b.db.RoleURL(b.role), SaveInterval: 50 * time.Millisecond, PollMax: 50 * time.Millisecond, Lease: time.Second,
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

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyIn(t, patience, what, ok)
}

func eventuallyIn(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not after %s: %s", limit, what)
		}
		async.Sleep(t.Context(), 2*time.Millisecond)
	}
}

// scalar returns the result of a query with one value.
func scalar[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	var v T
	if err := b.admin.QueryRow(b.t.Context(), sql, args...).Scan(&v); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return v
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

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/internal/async"
)

// privateServer is a cluster for tests in which the timing of slots, transaction ids or restarts matters.
func privateServer(t *testing.T, settings map[string]string) *pgtest.Server {
	t.Helper()
	return pgtest.Servers(t, pgtest.Options{Settings: settings})
}

// benchAt is newBench on a cluster of the test's own.
func benchAt(t *testing.T, s *pgtest.Server) *bench {
	t.Helper()
	return benchOn(t, s.New(t))
}

// gauges reads a relay's metrics and log.
type gauges struct {
	t        *testing.T
	registry *prometheus.Registry

	mu    sync.Mutex
	lines []string
}

// startWatched is start with gauges.
func (b *bench) startWatched(change ...func(*Config)) (*running, *gauges) {
	b.t.Helper()
	g := newGauges(b.t)
	return b.start(append([]func(*Config){g.watch}, change...)...), g
}

func newGauges(t *testing.T) *gauges { return &gauges{t: t, registry: prometheus.NewRegistry()} }

func (g *gauges) watch(c *Config) {
	c.Registerer = g.registry
	c.Logger = newTestLogger(g)
}

// Write implements io.Writer for the log.
func (g *gauges) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	g.t.Log(line)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, line)
	return len(p), nil
}

// logged counts the lines that contain the text.
func (g *gauges) logged(text string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// sum adds up the counters and gauges of a name that have the label value, all of the name for "".
func (g *gauges) sum(name, label string) (sum float64) {
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Error(err)
	}
	for _, family := range families {
		if family.GetName() != "postrider_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			matches := label == ""
			for _, pair := range m.GetLabel() {
				matches = matches || pair.GetValue() == label
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (g *gauges) ticks(kind string) float64 { return g.sum("ticks_total", kind) }

// follows waits until the relay has begun to follow the stream for the nth time.
func (g *gauges) follows(n int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("the relay follows the stream, time %d", n), func() bool { return g.logged("following the stream") >= n })
}

// traffic is applications that publish all the time: each has a key and waits for its commits, now and then it rolls back.
type traffic struct {
	b    *bench
	halt context.CancelFunc
	done sync.WaitGroup
}

// traffic publishes from so many connections, each at intervals, until stop.
func (b *bench) traffic(writers int, every time.Duration) *traffic {
	ctx, cancel := context.WithCancel(b.t.Context())
	w := &traffic{b: b, halt: cancel}
	for i := range writers {
		w.done.Go(func() { w.write(ctx, i, every) })
	}
	b.t.Cleanup(w.stop)
	return w
}

func (w *traffic) stop() {
	w.halt()
	w.done.Wait()
}

var errRollback = errors.New("rolled back on purpose")

// write goes on through every failure of the database: what counts is what is in the table in the end. Its last transaction comes to an end,
// for a COMMIT whose answer nobody awaits may be carried out at any time after.
func (w *traffic) write(ctx context.Context, writer int, every time.Duration) {
	key := fmt.Sprintf("writer-%d", writer)
	whole := w.b.t.Context()
	for n := 0; ctx.Err() == nil; n++ {
		err := pgx.BeginFunc(whole, w.b.App, func(tx pgx.Tx) error {
			for i := range 1 + n%3 {
				_, err := tx.Exec(whole, "SELECT postrider.enqueue('traffic.order', $1::text::jsonb, $2)", fmt.Sprintf("[%d, %d]", n, i), key)
				if err != nil {
					return err
				}
			}
			if n%7 == 6 {
				return errRollback
			}
			return nil
		})
		if err != nil && !errors.Is(err, errRollback) {
			async.Sleep(ctx, 20*time.Millisecond) // the server is away
		}
		async.Sleep(ctx, every)
	}
}

// stored returns the ids of all messages in the outbox, once the server answers.
func (b *bench) stored() (ids []int64) {
	b.t.Helper()
	eventually(b.t, "the outbox can be read", func() bool {
		rows, err := b.Admin.Query(b.t.Context(), "SELECT id FROM postrider.outbox ORDER BY id")
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err == nil
	})
	return ids
}

// settled waits until a subscription to everything has got all that is in the outbox, at least once.
func (b *bench) settled(rec *actor) {
	b.t.Helper()
	want := b.stored()
	eventually(b.t, fmt.Sprintf("all %d messages are delivered", len(want)), func() bool { return rec.count() >= len(want) && len(rec.missing(want)) == 0 })
}

// audit checks what a subscription to everything received in the end: all of the outbox, nothing else, each key in order and
// at most so many messages again. It returns how many came again.
func (b *bench) audit(rec *actor, again int) int {
	b.t.Helper()
	for i, swap := range rec.swaps() {
		if i < 5 {
			b.t.Errorf("key %s: message %d was delivered first after %d", swap.key, swap.late, swap.early)
		}
	}
	return b.auditUnordered(rec, again)
}

// auditUnordered is audit for what may reorder messages.
func (b *bench) auditUnordered(rec *actor, again int) int {
	b.t.Helper()
	want := b.stored()
	if missing := rec.missing(want); len(missing) > 0 {
		b.t.Errorf("%d of %d messages were not delivered, such as %v", len(missing), len(want), missing[:min(5, len(missing))])
	}
	known := make(map[int64]bool, len(want))
	for _, id := range want {
		known[id] = true
	}
	for _, id := range rec.rows() {
		if !known[id] {
			b.t.Errorf("message %d was delivered and is not in the outbox", id)
		}
		known[id] = true
	}
	doubles := rec.count() - len(known)
	if doubles > again {
		b.t.Errorf("%d messages were delivered again, at most %d may be", doubles, again)
	}
	b.t.Logf("%d messages, %d of them again", len(want), doubles)
	return doubles
}

func newTestLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// savedIsNotRepeated takes down what is saved as delivered now. The check fails if any of it was delivered since.
func (b *bench) savedIsNotRepeated(rec *actor) (check func()) {
	b.t.Helper()
	ids := scalar[[]int64](b, "SELECT array(SELECT id FROM postrider.deliveries WHERE status = 'delivered')")
	if len(ids) == 0 {
		b.t.Error("nothing is saved as delivered")
	}
	from := rec.count()
	return func() {
		b.t.Helper()
		saved := make(map[int64]bool)
		for _, id := range ids {
			saved[id] = true
		}
		for _, id := range rec.rows()[from:] {
			if saved[id] {
				b.t.Errorf("message %d was delivered again although that was saved", id)
			}
		}
	}
}

// only returns the value of the one series of a name that has all these label values, -1 if there is none.
func (g *gauges) only(name string, values ...string) float64 {
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Error(err)
	}
	found := -1.0
	for _, family := range families {
		if family.GetName() != "postrider_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			matches := 0
			for _, pair := range m.GetLabel() {
				if slices.Contains(values, pair.GetValue()) {
					matches++
				}
			}
			if matches == len(values) {
				found = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return found
}

// has says whether there is any series of a name.
func (g *gauges) has(name string) bool { return g.only(name) >= 0 }

package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/worker"
)

// Subscriptions that workers come for.
const (
	pulled = "pulled" // over HTTP
	taken  = "taken"  // in SQL
)

const (
	// workerTTL is how long a worker may be silent: longer than relays that are stopped one after the other can keep it from all of them.
	workerTTL = 5 * time.Second
	// sqlLimit is how long a transaction of a worker may last.
	sqlLimit = 3 * time.Second
)

// crew are the workers: over HTTP one for each relay, which asks that one first, and one in SQL.
type crew struct {
	links   [][]*linktest.Link // between each relay and each worker
	slow    atomic.Bool        // handlers take their time
	failing atomic.Bool        // handlers fail half of their jobs
	hang    atomic.Bool        // the next handler in SQL does not end by itself
	runs    runs
	effects map[string]int64 // of which run, in SQL
	rng     struct {
		sync.Mutex
		*rand.Rand
	}
}

// serveWorkers picks the address at which a relay serves workers, and puts a network between it and each; none if there are no workers.
func (w *world) serveWorkers() (addr string, err error) {
	if !w.hasWorkers() {
		return "", nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	var links []*linktest.Link
	for range w.Relays {
		link, err := linktest.Start(addr)
		if err != nil {
			return "", err
		}
		w.undo = append(w.undo, func() error { link.Stop(); return nil })
		links = append(links, link)
	}
	w.crew.links = append(w.crew.links, links)
	return addr, nil
}

// urls is where a worker finds the relays, its own first.
func (c *crew) urls(worker int) (urls []string) {
	for i := range c.links {
		urls = append(urls, "http://"+c.links[(worker+i)%len(c.links)][worker].Addr())
	}
	return urls
}

// hasWorkers reports whether there is a fault for them.
func (c *Config) hasWorkers() bool {
	return slices.ContainsFunc(c.chosen(), func(f *Fault) bool { return f.Hits == onWorkers })
}

// startWorkers lets them work until the world is closed, if there are to be any.
func (w *world) startWorkers() error {
	if !w.hasWorkers() {
		return nil
	}
	c := &w.crew
	c.rng.Rand = w.rng("workers")
	pool, err := pgxpool.New(context.Background(), w.db.url("postgres")+"&pool_max_conns=4")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	w.undo = append(w.undo, func() error {
		stop()
		working.Wait()
		pool.Close()
		return nil
	})
	run := func(source worker.Source, config worker.Config) error {
		config.Logger, config.Drain = slog.New(slog.DiscardHandler), time.Millisecond
		one, err := worker.New(source, config)
		if err != nil {
			return err
		}
		working.Go(func() {
			if err := one.Run(ctx); err != nil {
				w.fail(fmt.Errorf("worker %s: %w", config.Name, err))
			}
		})
		return nil
	}
	for i := range c.links {
		err = errors.Join(err, run(worker.Pull(c.urls(i)...), worker.Config{Name: fmt.Sprintf("worker-%d", i+1), Concurrency: 20, Beat: workerTTL / 10,
			Routes: []worker.Route{{Subscription: pulled, Handle: w.pull}}}))
	}
	return errors.Join(err, run(worker.SQL(pool), worker.Config{Name: "worker-sql", Limit: sqlLimit, Routes: []worker.Route{{Subscription: taken, Handle: w.take}}}))
}

var errMood = errors.New("the worker is in a bad mood")

// readable is what a worker can do something with.
func readable(body []byte) (payload, error) {
	p, err := parsePayload(body)
	if err == nil && p.Poison {
		err = errors.New("nobody accepts this")
	}
	return p, err
}

// mood is what handlers of both kinds have in common: they are slow, or fail.
func (c *crew) mood(ctx context.Context) error {
	if c.slow.Load() {
		pause(ctx, 100*time.Millisecond)
	}
	c.rng.Lock()
	defer c.rng.Unlock()
	if c.failing.Load() && c.rng.IntN(2) == 0 || c.rng.IntN(200) == 0 {
		return errMood
	}
	return context.Cause(ctx)
}

// pull does a job over HTTP: it enters it into the book.
func (w *world) pull(ctx context.Context, job *worker.Job) (err error) {
	wire := fmt.Sprint(job.ID, job.CreatedAt.UnixMicro())
	n := w.crew.runs.begin(wire)
	defer func() { w.crew.runs.end(n, err) }()
	p, err := readable(job.Payload)
	if err != nil {
		return worker.Dead(err)
	}
	w.look.at(p.ID)
	job.Progress(50, "half way")
	if err := job.SetResult(outcome{n, job.Attempt}); err != nil {
		return err
	}
	if err := w.crew.mood(ctx); err != nil {
		return err
	}
	w.bookOf(pulled).add(Arrival{ID: p.ID, Wire: wire, At: time.Now(), Accepted: true})
	return nil
}

// take does a job in SQL: its effect is a row, which is entered into the book once it is committed.
func (w *world) take(ctx context.Context, job *worker.Job) (err error) {
	wire := fmt.Sprint(job.ID, job.CreatedAt.UnixMicro())
	n := w.crew.runs.begin(wire)
	defer func() { w.crew.runs.end(n, err) }()
	p, err := readable(job.Payload)
	if err != nil {
		return worker.Dead(err)
	}
	if _, err := job.Tx().Exec(ctx, "INSERT INTO torture.effects (message, wire, run) VALUES ($1, $2, $3)", p.ID, wire, n); err != nil {
		return err
	}
	if err := job.SetResult(outcome{n, job.Attempt}); err != nil {
		return err
	}
	if w.crew.hang.CompareAndSwap(true, false) {
		<-ctx.Done()
	}
	return w.crew.mood(ctx)
}

func (w *world) bookOf(subscription string) *book {
	for _, s := range w.subs {
		if s.Name == subscription {
			return s.book
		}
	}
	panic("there is no subscription " + subscription)
}

// catchUpEffects makes the book of what workers in SQL have committed. Rows of a key have numbers in the order of their transactions, which hold its shard.
func (w *world) catchUpEffects(ctx context.Context) error {
	type effect struct {
		ID   int64
		Wire string
		Run  int64
		At   time.Time
	}
	var list []effect
	err := poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, "SELECT message, wire, run, at FROM torture.effects ORDER BY n")
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[effect])
		}
		return err
	})
	if err != nil {
		return err
	}
	b := newBook()
	w.crew.effects = make(map[string]int64)
	for _, e := range list {
		w.crew.effects[e.Wire] = e.Run
		b.add(Arrival{ID: e.ID, Wire: e.Wire, At: e.At, Accepted: true})
	}
	own := w.bookOf(taken)
	own.mu.Lock()
	defer own.mu.Unlock()
	own.arrivals, own.accepted = b.arrivals, b.accepted
	return nil
}

// settledByWorkers returns the ids on the wire of what workers have done and was not cancelled, by subscription.
func (w *world) settledByWorkers(t *truth) map[string]map[string]bool {
	settled := make(map[string]map[string]bool)
	for _, name := range []string{pulled, taken} {
		settled[name] = make(map[string]bool)
		for _, a := range w.bookOf(name).all() {
			_, there := t.messages[a.ID]
			if _, cancelled := t.cancelled[name][a.ID]; there && !cancelled {
				settled[name][a.Wire] = true
			}
		}
	}
	return settled
}

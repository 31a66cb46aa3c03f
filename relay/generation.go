package relay

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/schema"
	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/feed"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/relay/wal"
)

const (
	poolSize      = 8
	passesAtOnce  = 4
	singlesAtOnce = 2
)

var (
	_ feed.Server = (*store.OutboxReader)(nil)
	_ feed.Slots  = store.Slots{}
)

// telling is what a generation is told by others.
type telling struct {
	callbacks  chan struct{} // a callback has come
	cancels    chan struct{} // messages are to be cancelled
	operations chan struct{} // operations are to be worked off
	lost       *maintain.LostWorkers
	collecting *collecting // somebody collects metrics
}

// generation is the engine from one registration in postrider.relays to the loss of it. Nothing in memory outlives it.
type generation struct {
	config      *Config
	log         *slog.Logger
	metrics     *metrics.Metrics
	health      *health.Health
	pool        *dbconn.Pool
	unprepared  bool // as the connections are
	connect     func(context.Context) (*dbconn.Conn, error)
	incarnation string
	hasOwnName  bool // so that its sessions show that it lives
	feed        *feed.Feed
	passes      *delivery.Passes
	budget      *queue.Budget
	saver       *saver
	repoll      chan struct{}
	told        telling
	readMost    int // deliveries of a subscription in the next read of callbacks
	polls       polls
	startedAt   time.Time
	life        context.Context // of the runners' goroutines
	stops       sync.WaitGroup

	looking  atomic.Bool // whether what could not be delivered still cannot
	stranded atomic.Pointer[stranded]

	mu            sync.Mutex
	runners       map[subscription.Part]*delivery.Runner
	ending        map[subscription.Part]bool // runners that are being stopped
	pauses        map[string]string          // subscriptions to pause, with reasons
	unable        map[string]*unable
	unableChanged bool // the relay's row does not say so yet
}

func newGeneration(r *Relay, pool *dbconn.Pool, source string) *generation {
	incarnation := r.incarnation
	c := &r.config
	g := &generation{
		config: c, log: c.Logger, metrics: r.metrics, health: r.health, pool: pool, unprepared: r.unprepared, connect: r.connect, incarnation: incarnation, hasOwnName: r.hasOwnName,
		readMost: readAtMost, budget: &queue.Budget{Limit: c.MemoryLimit / 4}, repoll: make(chan struct{}, 1), told: telling{callbacks: make(chan struct{}, 1), cancels: make(chan struct{}, 1), operations: make(chan struct{}, 1), lost: &r.lostWorkers, collecting: &r.collecting},
		runners: make(map[subscription.Part]*delivery.Runner), ending: make(map[subscription.Part]bool), pauses: make(map[string]string),
		unable: make(map[string]*unable),
	}
	g.feed = feed.New(g.feedConfig(r, source))
	g.passes = &delivery.Passes{DB: store.Database{Pool: pool, Source: source, Incarnation: incarnation}, Reading: semaphore.NewWeighted(passesAtOnce), Single: semaphore.NewWeighted(singlesAtOnce), Shelf: delivery.NewShelf(c.MemoryLimit / 2), Losses: &r.losses,
		Limit: c.MemoryLimit / 4, Largest: c.largest, Log: c.Logger, Health: r.health}
	g.saver = &saver{config: c, pool: pool, log: c.Logger, health: r.health, metrics: r.metrics, incarnation: incarnation,
		urgent: make(chan struct{}, 1), saving: make(chan struct{}, 1), busy: make(map[subscription.Part]*delivery.SaveItem), runs: make(map[subscription.Part]*delivery.Runner), lost: func(string) { async.Signal(g.repoll) }}
	return g
}

// run delivers until ctx is cancelled, which makes it stop in order, or the registration is lost, which makes it drop
// everything and return errLost. It calls healthy when it has registered.
func (g *generation) run(ctx context.Context, follow Follow, healthy func()) error {
	if err := g.register(ctx); err != nil {
		return err
	}
	healthy()
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	g.life = hard
	group, hard := errgroup.WithContext(hard)
	soft, stopSoft := context.WithCancel(hard)
	defer stopSoft()
	defer context.AfterFunc(ctx, stopSoft)()

	group.Go(func() error { return g.feed.Run(hard) })
	group.Go(func() error { return g.saver.run(hard) })
	group.Go(func() error { return g.maintain(soft) })
	group.Go(func() error { return g.fireSchedules(soft) })
	group.Go(func() error { return g.readCallbacks(soft) })
	group.Go(func() error { return g.lookForCancels(soft) })
	group.Go(func() error { return g.lookForMetrics(soft) })
	switch follow {
	case FollowStream:
		group.Go(func() error { return g.newStreamer().Run(hard) })
	case FollowListen:
		group.Go(func() error { return g.feed.Listen(hard, g.connect) })
	}

	// It ends with ctx, with an error of its own, or with the first error of any other part.
	err := newOwner(g).run(soft)
	if err == nil && hard.Err() == nil {
		g.stopInOrder()
	}
	kill()
	if partErr := group.Wait(); err == nil {
		err = partErr
	}
	g.dropAll()
	return err
}

func (g *generation) feedConfig(r *Relay, source string) feed.Config {
	decoder := message.NewDecoder(source)
	parts := map[feed.Part]string{feed.Looking: health.CannotLook, feed.Streaming: health.CannotStream, feed.Listening: health.CannotListen}
	return feed.Config{
		Open: func(ctx context.Context) (feed.Server, error) {
			conn, err := r.connect(ctx)
			if err != nil {
				return nil, err
			}
			return &store.OutboxReader{Session: store.NewSession(conn.Conn), Incarnation: g.incarnation, Decoder: decoder}, nil
		},
		Fatal: func(err error) bool { return errors.Is(err, store.ErrLost) || isFatal(err) },
		Report: func(p feed.Part, err error) {
			if err != nil {
				g.health.Failed(parts[p], err)
				return
			}
			g.health.Works(parts[p])
		},
		Log: g.log, Metrics: feed.Metrics{Ticks: g.metrics.Ticks, Gaps: g.metrics.Gaps, Completed: g.metrics.Completed},
		PollMin: g.config.PollMin, PollMax: g.config.PollMax, MemoryLimit: g.config.MemoryLimit, BusyRate: g.config.busyRate,
	}
}

func (g *generation) newStreamer() *feed.Streamer {
	return &feed.Streamer{Feed: g.feed, Slots: store.Slots{Pool: g.pool}, WALBudget: g.config.WALBudget, Stream: wal.Stream{
		DatabaseURL: g.config.DatabaseURL, Slot: wal.SlotPrefix + g.incarnation[:8], Decoder: message.NewDecoder(g.passes.DB.Source), Backlog: g.feed.Backlog, Log: g.log}}
}

// db is the tables of what this relay owns, and registry that of the relays.
func (g *generation) db() store.Database { return g.passes.DB }

func (g *generation) registry() store.Registry {
	return store.Registry{Pool: g.pool, Incarnation: g.incarnation}
}

// register makes the row whose presence shows that nothing has happened that would void snapshots in memory.
func (g *generation) register(ctx context.Context) error {
	declared, err := json.Marshal(orEmpty(g.config.Declared))
	if err != nil {
		return err
	}
	return g.registry().Register(ctx, store.Registration{Name: g.config.Name, Version: g.config.Version, Schema: schema.Version, Declared: declared, URL: g.config.url()})
}

func orEmpty(declared map[string]Declaration) map[string]Declaration {
	if declared == nil {
		return map[string]Declaration{}
	}
	return declared
}

// stopInOrder drains, saves and releases everything, within the drain timeout and as much again for the database.
func (g *generation) stopInOrder() {
	life, end := context.WithCancel(g.life)
	var shown sync.WaitGroup
	shown.Go(func() { g.showLife(life) })
	for _, r := range g.running() {
		g.stopRunner(r)
	}
	g.stops.Wait()
	end()
	shown.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), g.config.DrainTimeout+time.Second)
	defer cancel()
	if err := g.told.lost.Tell(ctx, store.Events{Pool: g.pool}); err != nil {
		g.log.Warn("operators are not told of lost workers", "error", err)
	}
	if err := g.registry().Deregister(ctx); err != nil {
		g.log.Warn("not deregistered: others will wait for the lease", "error", err)
	}
}

// dropAll ends what is left without saving anything.
func (g *generation) dropAll() {
	for _, r := range g.running() {
		r.Abandon()
		g.stopRunner(r)
	}
	g.stops.Wait()
	g.metrics.Forget(func(string) bool { return true })
	g.metrics.Unable.Set(0)
}

// stopRunner stops a runner in the background: no intake, drain, save, release. The next poll finds it gone.
func (g *generation) stopRunner(r *delivery.Runner) {
	part := r.Part()
	g.mu.Lock()
	if g.ending[part] || g.runners[part] != r {
		g.mu.Unlock()
		return
	}
	g.ending[part] = true
	g.mu.Unlock()
	r.Stop()
	g.stops.Go(func() {
		g.finishRunner(g.life, r) // also when the relay itself is told to stop meanwhile
		g.mu.Lock()
		delete(g.runners, part)
		delete(g.ending, part)
		g.metrics.Owned.Set(float64(len(g.runners)))
		g.mu.Unlock()
		async.Signal(g.repoll)
	})
}

func (g *generation) finishRunner(ctx context.Context, r *delivery.Runner) {
	drainCtx, cancel := context.WithTimeout(ctx, g.config.DrainTimeout)
	r.Drain(drainCtx)
	cancel()
	saveCtx, cancel := context.WithTimeout(ctx, max(g.config.DrainTimeout, time.Second))
	defer cancel()
	if err := g.saver.saveLast(saveCtx, r); err != nil && !errors.Is(err, store.ErrLost) {
		g.log.Warn("last progress not saved: some messages will come again", "subscription", r.Env.Sub.Name, "error", err)
	}
	g.saver.remove(r)
	r.Close()
	g.health.Forget(r.Env.Sub.Name)
	if saveCtx.Err() != nil {
		return
	}
	if err := g.db().Release(saveCtx, r.Part()); err != nil && saveCtx.Err() == nil {
		g.log.Warn("cursor not released", "subscription", r.Env.Sub.Name, "error", err)
	}
}

// requestPause asks for a subscription to be paused; it never waits.
func (g *generation) requestPause(name, reason string) {
	g.mu.Lock()
	g.pauses[name] = reason
	g.mu.Unlock()
	async.Signal(g.repoll)
}

func (g *generation) pauseRequests() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.pauses)
}

func (g *generation) pauseDone(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pauses, name)
}

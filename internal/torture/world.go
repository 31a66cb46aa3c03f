package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/amazontest"
	"github.com/postrider/postrider/internal/hooktest"
	"github.com/postrider/postrider/internal/natstest"
	"github.com/postrider/postrider/internal/pgtest"
)

const (
	// lease is short, so that takeovers happen often.
	lease = 3 * time.Second
	// saveInterval is the relays' setting; a save may take as long again, and longer on a busy machine.
	saveInterval = 500 * time.Millisecond
	saveReach    = saveInterval + 2*time.Second
	// segmentLength makes the ring of 16 go round every few seconds.
	segmentLength = time.Second
	retention     = 2 * time.Second
)

// world is everything that takes part in a round.
type world struct {
	Config
	dir string
	dog *watchdog
	db  *database
	destinations
	subs   []*subscription
	relays []*relay
	links  []network // between each relay and the database
	apps   *producers
	crew   crew
	look   *looker

	undo        []func() error
	publication publication

	mu        sync.Mutex
	incidents []Incident
	failures  []string // of relays, while running
	reused    int      // transaction ids that were handed out again
	peak      float64  // bytes of memory, of any relay
}

// destinations are where messages go.
type destinations struct {
	nats      *natstest.Cluster
	hooks     *hooktest.Receiver // serves well, always
	victim    *hooktest.Receiver // the faults' own
	warehouse warehouse
	brokers   brokers
}

// newWorld starts everything but the producers. After an error nothing is left.
func newWorld(ctx context.Context, c Config) (w *world, err error) {
	w = &world{Config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"make a directory", w.makeDir},
		{"start PostgreSQL", w.startDatabase},
		{"keep a ledger", w.keepLedger},
		{"start the inbox", w.startWarehouse},
		{"start NATS", w.startNATS},
		{"start further destinations", w.startBrokers},
		{"start the receivers", w.startReceivers},
		{"subscribe", w.subscribe},
		{"start the relays", w.startRelays},
		{"start the workers", func(context.Context) error { return w.startWorkers() }},
	} {
		if err := step.run(ctx); err != nil {
			return w, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	w.apps = &producers{history: &history{}, url: func() string { return w.db.url("app") }, rng: w.rng("producers")}
	return w, nil
}

// rng returns a source of chance for one purpose, so that one purpose does not change the course of another.
func (w *world) rng(purpose string) *rand.Rand {
	var h uint64 = 14695981039346656037
	for _, b := range []byte(purpose) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(w.Seed, h))
}

func (w *world) makeDir(context.Context) (err error) {
	if w.dir = w.Dir; w.dir == "" {
		if w.dir, err = os.MkdirTemp("", "postrider-torture-"); err != nil {
			return err
		}
	}
	if w.dog, err = startWatchdog(w.dir); err != nil {
		return err
	}
	w.undo = append(w.undo, w.dog.dismiss)
	return nil
}

func (w *world) startDatabase(ctx context.Context) (err error) {
	if w.db, err = startDatabase(ctx, pgtest.Options{}); err != nil {
		return err
	}
	w.undo = append(w.undo, w.db.stop)
	if w.Standby {
		if err := w.db.addStandby(ctx); err != nil {
			return err
		}
	}
	if w.Follow == "pooler" {
		if w.db.pooler, err = pgtest.StartBouncer(ctx, w.db.primary(), pgtest.BouncerOptions{User: "relay"}); err != nil {
			return err
		}
	}
	if _, err := w.db.admin.Exec(ctx, "SELECT postrider.set_segment_length($1)", segmentLength); err != nil {
		return err
	}
	if w.Follow == "listen" {
		_, err = w.db.admin.Exec(ctx, "SELECT postrider.enable_notify()")
	}
	return err
}

func (w *world) startNATS(ctx context.Context) (err error) {
	if w.nats, err = natstest.Start(ctx, natstest.Options{Servers: w.NATSServers, Dir: filepath.Join(w.dir, "nats")}); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error { w.nats.Stop(); return nil })
	w.subs = newSubscriptions(w.NATSServers, w.hasWorkers(), w.hasJobs(), w.warehouse.server != nil)
	for _, s := range w.subs {
		if s.stream == nil {
			continue
		}
		s.stream.nats = w.nats
		if err := s.stream.create(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startReceivers(context.Context) (err error) {
	w.look = startLooker(w.db)
	w.undo = append(w.undo, w.look.stop)
	books := make(map[string]*book)
	for _, s := range w.subs {
		books[s.hook] = s.book
	}
	record := func(a hooktest.Arrival) {
		id, numbered, err := identify(a)
		switch {
		case err != nil && !a.Accepted:
			return // cut off while it was read
		case err != nil:
			books[a.Path].reject(fmt.Sprintf("%s received %v", a.Path, err))
			return
		}
		books[a.Path].add(Arrival{ID: id, Wire: a.Header.Get("Webhook-Id"), At: a.At, Accepted: a.Accepted})
		if numbered {
			w.look.at(id)
		}
	}
	for _, r := range []**hooktest.Receiver{&w.hooks, &w.victim} {
		if *r, err = hooktest.Start(record); err != nil {
			return err
		}
		w.undo = append(w.undo, func() error { (*r).Stop(); return nil })
	}
	for _, path := range []string{"/skips", "/holds"} {
		w.hooks.Poison(path, func(_ string, body []byte) (int, bool) {
			p, err := parsePayload(body)
			return 500, err == nil && p.Poison
		})
	}
	w.hooks.Poison("/"+alerts, func(_ string, body []byte) (int, bool) { return 500, disliked(body) })
	w.hooks.Set("/"+effects, hooktest.Slow(30*time.Millisecond)) // so that some are out
	return nil
}

func (w *world) startRelays(ctx context.Context) (err error) {
	if w.Binary == "" {
		if w.Binary, err = Build(ctx, w.dir); err != nil {
			return err
		}
	}
	for i := range w.Relays {
		if err := w.addRelay(i); err != nil {
			return err
		}
	}
	for _, r := range w.relays {
		if err := r.start(); err != nil {
			return err
		}
	}
	return w.awaitReady(ctx)
}

// addRelay makes a relay that reaches the database through a link of its own.
func (w *world) addRelay(i int) error {
	url, err := w.connectRelay()
	if err != nil {
		return err
	}
	api, err := w.serveWorkers()
	if err != nil {
		return err
	}
	follow := w.Follow
	if follow == "pooler" {
		follow = "timer"
	}
	r := &relay{name: fmt.Sprintf("relay-%d", i+1), binary: w.Binary, dir: w.dir, dog: w.dog, env: []string{
		"POSTRIDER_DATABASE_URL=" + url, "POSTRIDER_FOLLOW=" + follow, "POSTRIDER_NAME=" + fmt.Sprintf("relay-%d", i+1),
		"POSTRIDER_LEASE=" + lease.String(), "POSTRIDER_SAVE_INTERVAL=" + saveInterval.String(), "POSTRIDER_RETENTION=" + retention.String(),
		"POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_API_ADDR=" + api, "POSTRIDER_MIGRATE=false", "POSTRIDER_LOG_LEVEL=debug",
		secretVariable + "=" + amazontest.SecretAccessKey,
	}}
	if api != "" {
		r.env = append(r.env, "POSTRIDER_API_URL=http://"+api)
	}
	r.died = func(err error) { w.supervise(r, err) }
	w.undo = append(w.undo, func() error { r.kill(); return nil })
	w.relays = append(w.relays, r)
	return nil
}

// awaitReady waits until every relay says that it is ready and every subscription is somebody's.
func (w *world) awaitReady(ctx context.Context) error {
	for _, r := range w.relays {
		if err := poll(ctx, time.Minute, func() error { return r.ready(ctx) }); err != nil {
			return err
		}
	}
	return poll(ctx, time.Minute, func() error {
		n, err := one[int](ctx, w.db, `SELECT count(*)::int FROM postrider.cursors WHERE owner IS NULL
			OR owner NOT IN (SELECT incarnation FROM postrider.relays)`)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d subscriptions have no relay", n)
		}
		return err
	})
}

// fail takes a failure down; nil is none. The run goes on, for what it shows besides.
func (w *world) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, err.Error())
	w.say("FAILED: %v", err)
}

// incident takes a fault down.
func (w *world) incident(i Incident) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.incidents = append(w.incidents, i)
}

// say writes a line to the log.
func (c *Config) say(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, clock(time.Now())+" "+format+"\n", args...)
	}
}

// close undoes everything, the last thing first.
func (w *world) close() (err error) {
	for i := len(w.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, w.undo[i]())
	}
	w.undo = nil
	return err
}

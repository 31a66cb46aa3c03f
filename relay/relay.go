package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/schema"
	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
)

// Relay delivers the messages of one database. Make one with New.
type Relay struct {
	config  Config
	log     *slog.Logger
	metrics *metrics.Metrics
	health  *health.Health
	place   dbconn.Place // as it was last told
	// Statements cannot be prepared: a pooler is in between.
	unprepared bool
	now        atomic.Pointer[generation] // nil between generations
	trouble    atomic.Pointer[string]

	incarnation string // of the generation that runs or begins
	hasOwnName  bool   // its sessions tell the incarnation
	losses      delivery.Losses
	lostWorkers maintain.LostWorkers
	collecting  collecting
}

// New checks the configuration. Nothing is connected before Run.
func New(c Config) (*Relay, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	r := &Relay{config: c, log: c.Logger, health: health.New(c.Logger, c.moment), collecting: collecting{since: time.Now(), wake: make(chan struct{}, 1)}}
	r.metrics = metrics.New(c.Registerer, r.measure)
	return r, nil
}

// fatalError is an error that trying again cannot fix: it ends Run.
type fatalError struct{ err error }

// Error returns the reason.
func (f *fatalError) Error() string { return f.err.Error() }

// Unwrap returns the reason.
func (f *fatalError) Unwrap() error { return f.err }

// Run delivers until ctx is cancelled, then stops in order: takes nothing more in, drains, saves, releases its cursors. A
// clean stop causes no duplicate and returns nil. Trouble with the database is waited out; an error is returned only for what
// waiting cannot mend: a schema that is missing or too old, another cluster's data, a way to follow that was asked for by name and
// is not to be had, a privilege that is missing.
func (r *Relay) Run(ctx context.Context) error {
	retry := async.ReconnectBackoff()
	for {
		started := false
		err := r.runGeneration(ctx, func() {
			started = true
			r.health.Back()
			retry.Reset()
		})
		r.health.Clear()
		if fatal, ok := errors.AsType[*fatalError](err); ok && ctx.Err() == nil {
			return fatal.err
		}
		if ctx.Err() != nil {
			return nil
		}
		text := "unknown"
		if err != nil {
			text = dberr.Cause(err)
		}
		r.trouble.Store(&text)
		if started {
			r.log.Warn("starting over", "because", text)
		} else {
			r.health.Away(err)
		}
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

// Ready returns nil while deliveries advance or wait only for their destinations, else the reason why they do not.
func (r *Relay) Ready() error {
	g := r.now.Load()
	if g == nil {
		if text := r.trouble.Load(); text != nil {
			return fmt.Errorf("not connected to the database: %s", *text)
		}
		return errors.New("starting")
	}
	return g.ready(time.Now())
}

// ReadCallbacks makes the relay read at once what callbacks have changed. It may be called at any time and never waits.
func (r *Relay) ReadCallbacks() {
	if g := r.now.Load(); g != nil {
		async.Signal(g.told.callbacks)
	}
}

// WorkerLost notes, for whoever is to know, that a worker is gone with so many jobs, by subscription. It may be called at any time and never waits.
func (r *Relay) WorkerLost(worker, reason string, jobs map[string]int) {
	r.lostWorkers.Add(worker, reason, jobs)
}

// ready finds what stands still that should not: what has failed for a while, and what does not even fail.
func (g *generation) ready(now time.Time) error {
	if err := g.health.Err(now); err != nil {
		return err
	}
	patience := max(10*time.Second, 2*g.config.PollMax, 2*g.config.SaveInterval)
	silent := func(at int64) time.Duration {
		if at == 0 {
			return now.Sub(g.startedAt)
		}
		return now.Sub(time.Unix(0, at))
	}
	if d := silent(g.polls.at.Load()); d > patience {
		return fmt.Errorf("subscriptions have not been read for %s", d.Round(time.Second))
	}
	// While nobody is live, the feed has nothing to look for.
	if d := silent(g.feed.TickedAt()); g.feed.Active.Load() && d > patience {
		return fmt.Errorf("the feed has not looked for messages for %s", d.Round(time.Second))
	}
	if g.polls.at.Load() == 0 {
		return errors.New("starting")
	}
	if s := g.stranded.Load(); s != nil && (s.nobody || now.Sub(s.since) > patience) {
		return errors.New(s.text)
	}
	return nil
}

func (r *Relay) runGeneration(ctx context.Context, healthy func()) error {
	r.incarnation = uuid.NewString()
	pool, place, err := r.openPool(ctx)
	if err != nil {
		return asFatal(err)
	}
	defer pool.Close()
	source, err := r.checkDatabase(ctx, pool)
	if err != nil {
		return asFatal(err)
	}
	ticks, err := r.chooseFollow(ctx, pool, place)
	if err != nil {
		return asFatal(err)
	}
	replica, closeReplica, err := r.openReplica(ctx)
	if err != nil {
		return asFatal(err)
	}
	defer closeReplica()
	g := newGeneration(r, pool, source)
	g.passes.DB.Replica = replica
	g.startedAt = time.Now()
	r.now.Store(g)
	defer r.now.Store(nil)
	r.log.Info("relay started", "name", r.config.Name, "incarnation", Short(g.incarnation), "follow", ticks)
	return asFatal(g.run(ctx, ticks, healthy))
}

// asFatal marks errors of the database that trying again cannot fix.
func asFatal(err error) error {
	if dbconn.Hides(err) {
		return &fatalError{fmt.Errorf("%w: %s", err, dbconn.HidesRemedy)}
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" { // insufficient_privilege
		return &fatalError{fmt.Errorf("%w: `postrider grants --relay ROLE` prints what the role needs", err)}
	}
	if dbconn.Hopeless(err) {
		return &fatalError{err}
	}
	return err
}

// isFatal says whether asFatal would mark the error.
func isFatal(err error) bool {
	_, fatal := errors.AsType[*fatalError](asFatal(err))
	return fatal
}

// checkDatabase makes sure that the schema is there and that its transaction ids mean something here. It returns the source id.
func (r *Relay) checkDatabase(ctx context.Context, pool *dbconn.Pool) (string, error) {
	version, err := store.SchemaVersion(ctx, pool)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return "", &fatalError{errors.New("the database has no schema postrider: run `postrider migrate`")}
	}
	if err != nil {
		return "", err
	}
	if version < schema.Version {
		return "", &fatalError{fmt.Errorf("schema version %d: this relay needs %d: run `postrider migrate`", version, schema.Version)}
	}
	source, same, err := store.Identity(ctx, pool)
	if err != nil {
		return "", err
	}
	if !same {
		return "", &fatalError{errors.New("the outbox was copied here from another cluster or database, where its transaction ids " +
			"belong: run `postrider rebase` once, which keeps what is pending and what is settled")}
	}
	return source, nil
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
)

// schemaVersion is the oldest schema that this engine works on.
const schemaVersion = 11

// distantPast is before every time that a message is due.
var distantPast = time.Unix(0, 0)

// Relay delivers the messages of one database. Make one with New.
type Relay struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	now     atomic.Pointer[generation] // nil between generations
	since   atomic.Int64               // unix nanoseconds of the last change of now
	trouble atomic.Pointer[string]

	incarnation string // of the generation that runs or begins
	hasOwnName  bool   // its sessions tell the incarnation
	losses      losses
}

// New checks the configuration. Nothing is connected before Run.
func New(c Config) (*Relay, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Relay{config: c, log: c.Logger, metrics: newMetrics(c.Registerer)}
	r.since.Store(time.Now().UnixNano())
	return r, nil
}

// fatalError is what waiting does not mend.
type fatalError struct{ err error }

// Error returns the reason.
func (f *fatalError) Error() string { return f.err.Error() }

// Unwrap returns the reason.
func (f *fatalError) Unwrap() error { return f.err }

// Run delivers until ctx is cancelled, then stops in order: takes nothing more in, drains, saves, releases its cursors. A
// clean stop causes no duplicate and returns nil. Trouble with the database is waited out; an error is returned only for what
// waiting cannot mend: a schema that is missing or too old, another cluster's data, a source that was asked for by name and
// is not to be had, a privilege that is missing.
func (r *Relay) Run(ctx context.Context) error {
	retry := reconnectBackoff()
	for {
		err := r.runGeneration(ctx, retry.Reset)
		if fatal, ok := errors.AsType[*fatalError](err); ok && ctx.Err() == nil {
			return fatal.err
		}
		if ctx.Err() != nil {
			return nil
		}
		wait := retry.NextBackOff()
		text := "unknown"
		if err != nil {
			text = err.Error()
		}
		r.trouble.Store(&text)
		r.log.Warn("starting over", "because", text, "retry_in", wait)
		if !sleep(ctx, wait) {
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

// Look makes the relay look at once for what callbacks have changed. It may be called at any time and never waits.
func (r *Relay) Look() {
	if g := r.now.Load(); g != nil {
		signal(g.look)
	}
}

// ready finds what stands still that should not.
func (g *generation) ready(now time.Time) error {
	patience := max(10*time.Second, 2*g.config.PollMax, 2*g.config.SaveInterval)
	started := g.startedAt
	for _, part := range []struct {
		name string
		at   int64
	}{{"subscriptions have not been read", g.polledAt.Load()}, {"the feed has not looked for messages", g.feed.tickedAt.Load()}} {
		if part.name != "subscriptions have not been read" && !g.feed.active.Load() {
			continue // nobody is live: it has nothing to look for
		}
		last := started
		if part.at != 0 {
			last = time.Unix(0, part.at)
		}
		if silent := now.Sub(last); silent > patience {
			return fmt.Errorf("%s for %s", part.name, silent.Round(time.Second))
		}
	}
	if g.polledAt.Load() == 0 {
		return errors.New("starting")
	}
	if s := g.stranded.Load(); s != nil && (s.nobody || now.Sub(s.since) > patience) {
		return errors.New(s.text)
	}
	if from := g.saver.failingFrom.Load(); from != 0 && now.Sub(time.Unix(0, from)) > patience {
		return fmt.Errorf("progress has not been saved for %s", now.Sub(time.Unix(0, from)).Round(time.Second))
	}
	return nil
}

func (r *Relay) runGeneration(ctx context.Context, healthy func()) error {
	r.incarnation = uuid.NewString()
	pool, err := r.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	source, err := r.checkDatabase(ctx, pool)
	if err != nil {
		return asFatal(err)
	}
	pooled, err := pool.Pooled(ctx)
	if err != nil {
		return err
	}
	r.hasOwnName = r.hasOwnName && !pooled
	ticks, err := r.chooseSource(ctx, pool)
	if err != nil {
		return asFatal(err)
	}
	g := newGeneration(r, pool, source)
	g.startedAt = time.Now()
	r.now.Store(g)
	defer r.now.Store(nil)
	r.log.Info("relay started", "name", r.config.Name, "incarnation", Short(g.incarnation), "source", ticks)
	return asFatal(g.run(ctx, ticks, healthy))
}

// asFatal marks errors of the database that waiting does not mend.
func asFatal(err error) error {
	if dbconn.Hides(err) {
		return &fatalError{fmt.Errorf("%w: %s", err, dbconn.HidesRemedy)}
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" { // insufficient_privilege
		return &fatalError{fmt.Errorf("%w: `postrider grants --relay ROLE` prints what the role needs", err)}
	}
	return err
}

// isFatal says whether asFatal would mark the error.
func isFatal(err error) bool {
	_, fatal := errors.AsType[*fatalError](asFatal(err))
	return fatal
}

func (r *Relay) openPool(ctx context.Context) (*dbconn.Pool, error) {
	config, err := dbconn.ParseConfig(r.config.DatabaseURL)
	if err != nil {
		return nil, &fatalError{err}
	}
	config.MaxConns = max(config.MaxConns, poolSize)
	r.hasOwnName = r.nameSessions(config.ConnConfig)
	dbconn.PreferPrimary(config.ConnConfig)
	pool, err := dbconn.NewPool(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return pool, nil
}

// connect opens a connection of its own, outside of the pool.
func (r *Relay) connect(ctx context.Context) (*dbconn.Conn, error) {
	config, err := dbconn.ParseConfig(r.config.DatabaseURL)
	if err != nil {
		return nil, err
	}
	r.nameSessions(config.ConnConfig)
	dbconn.PreferPrimary(config.ConnConfig)
	return dbconn.Connect(ctx, config.ConnConfig)
}

// ownName is what sessions are called unless the connection string says otherwise.
const ownName = "postrider"

// Short is enough of an incarnation to tell relays apart.
func Short(incarnation string) string { return incarnation[:min(8, len(incarnation))] }

// nameSessions puts the incarnation into the sessions' names: so others see that this relay is there although it writes nothing while
// it is alone and idle. A name that the connection string asks for stays as it is.
func (r *Relay) nameSessions(c *pgx.ConnConfig) (named bool) {
	if c.RuntimeParams["application_name"] != ownName {
		return false
	}
	c.RuntimeParams["application_name"] = ownName + " " + Short(r.incarnation)
	return true
}

// checkDatabase makes sure that the schema is there and that its transaction ids mean something here. It returns the source id.
func (r *Relay) checkDatabase(ctx context.Context, pool *dbconn.Pool) (string, error) {
	var version int
	err := pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM postrider.schema_migrations WHERE is_applied").Scan(&version)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return "", &fatalError{errors.New("the database has no schema postrider: run `postrider migrate`")}
	}
	if err != nil {
		return "", fmt.Errorf("read schema version: %w", err)
	}
	if version < schemaVersion {
		return "", &fatalError{fmt.Errorf("schema version %d: this relay needs %d: run `postrider migrate`", version, schemaVersion)}
	}
	var source string
	var same, primary bool
	err = pool.QueryRow(ctx, `SELECT id, system_identifier = (SELECT system_identifier FROM pg_control_system())
		AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()), NOT pg_is_in_recovery()
		FROM postrider.source`).Scan(&source, &same, &primary)
	if err != nil {
		return "", fmt.Errorf("read the database's identity: %w", err)
	}
	if !primary {
		return "", errors.New("the server is a standby: deliveries need the primary")
	}
	if !same {
		return "", &fatalError{errors.New("the outbox was copied here from another cluster or database, where its transaction ids " +
			"belong: run `postrider rebase` once, which keeps what is pending and what is settled")}
	}
	return source, nil
}

// chooseSource resolves SourceAuto and checks that what was asked for by name is to be had.
func (r *Relay) chooseSource(ctx context.Context, pool *dbconn.Pool) (Source, error) {
	switch r.config.Source {
	case SourceTimer:
		return SourceTimer, nil
	case SourceListen:
		return SourceListen, r.checkNotify(ctx, pool)
	}
	why, err := streamable(ctx, pool)
	if err != nil || why == "" {
		return SourceStream, err
	}
	if r.config.Source == SourceStream {
		return "", &fatalError{fmt.Errorf("source stream: %s", why)}
	}
	r.log.Info("no stream: ticks read the table on a timer", "because", why)
	return SourceTimer, nil
}

func (r *Relay) checkNotify(ctx context.Context, pool *dbconn.Pool) error {
	var there bool
	err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_trigger
		WHERE tgrelid = 'postrider.outbox'::regclass AND tgname = 'notify_outbox')`).Scan(&there)
	if err != nil {
		return fmt.Errorf("look for the trigger: %w", err)
	}
	if !there {
		return &fatalError{errors.New("source listen: nobody notifies: run SELECT postrider.enable_notify() as the schema's owner")}
	}
	return nil
}

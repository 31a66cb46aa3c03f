package main

import (
	"context"
	"log"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/internal/traces"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Deliver messages until SIGINT or SIGTERM",
		Long: `Deliver messages until SIGINT or SIGTERM, which ask for a clean stop; a second one ends the process at once.

At start it brings the schema up to date (unless POSTRIDER_MIGRATE=false), then creates or changes the subscription that
POSTRIDER_SINK and POSTRIDER_TOPICS describe and those of the file POSTRIDER_CONFIG. Others in the database are delivered
as well. Any number of relays may run against one database.`,
		Example: "  POSTRIDER_DATABASE_URL=postgres://localhost/shop POSTRIDER_SINK=stdout: POSTRIDER_TOPICS='>' postrider run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), s)
		},
	}
}

// run checks what can be checked without the database, then serves HTTP while it waits for the database, prepares it and
// relays.
func (a *app) run(ctx context.Context, s *config.Settings) error {
	if err := s.RequireDatabase(); err != nil {
		return err
	}
	specs, err := s.Specs()
	if err != nil {
		return err
	}
	untouched := make([]byte, headroom)
	defer runtime.KeepAlive(untouched)
	registry := newRegistry()
	tracing, err := traces.Read()
	if err != nil {
		return err
	}
	secrets := s.Secrets()
	secrets.Learn(tracing.Secrets()...)
	logger := a.logger(s, secrets)
	keepWithinContainer(s, logger)
	log.SetFlags(0)
	log.SetOutput(webhook.LogWriter(logger)) // net/http quotes what it receives and nobody asked for
	spans, err := traces.Start(ctx, tracing, traces.Process{Relay: string(s.Name), Version: buildVersion(), Log: logger, Redact: secrets.Redact, Registerer: registry})
	if err != nil {
		return err
	}
	defer spans.Stop()
	all, err := openServices(s, logger, registry, secrets, specs, spans)
	if err != nil {
		return err
	}
	ready := &readiness{}
	ready.set(notYet("the relay is starting"))
	defer context.AfterFunc(ctx, func() { logger.Info("stopping; another signal ends the process at once") })()
	group, ctx := errgroup.WithContext(ctx)
	// HTTP is served until the relay has stopped: a probe must not give up on a process that drains.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	all.serve(serving, group, ready)
	group.Go(func() error {
		defer stopServing()
		if err := prepare(ctx, s, specs, logger, ready); err != nil {
			return unlessStopped(ctx, err)
		}
		ready.set(all.relay.Ready)
		logger.Info("relaying", "name", s.Name, "version", buildVersion(), "follow", s.Follow)
		return all.relay.Run(ctx)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// unlessStopped drops the errors that a stop causes.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepare waits for the database, brings its schema up to date and applies the specs. If the database goes away meanwhile, it
// begins again.
func prepare(ctx context.Context, s *config.Settings, specs []subscription.Spec, logger *slog.Logger, ready *readiness) error {
	for {
		db, err := waitForDatabase(ctx, string(s.DatabaseURL), logger, func(err error) {
			ready.set(notYet("the database cannot be used yet: " + dberr.Cause(err)))
		})
		if err != nil {
			return err
		}
		err = prepareOn(ctx, db, s, specs, logger)
		lost := err != nil && (db.IsClosed() && worthWaiting(err) || dberr.Code(err) == "25006") // read-only: a standby now
		admin.Close(db)
		if !lost || ctx.Err() != nil {
			return err
		}
		logger.Warn("the database went away while it was prepared", "because", dberr.Cause(err))
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func prepareOn(ctx context.Context, db *dbconn.Conn, s *config.Settings, specs []subscription.Spec, logger *slog.Logger) error {
	if err := prepareSchema(ctx, db, s, logger); err != nil {
		return err
	}
	if err := admin.SetMaxMessage(ctx, db, int64(s.MaxMessage), logger); err != nil {
		return err
	}
	return prepareSubscriptions(ctx, db, specs, logger)
}

func prepareSchema(ctx context.Context, db *dbconn.Conn, s *config.Settings, logger *slog.Logger) error {
	if !s.Migrate {
		return admin.CheckSchema(ctx, db)
	}
	n, err := admin.Migrate(ctx, db, string(s.DatabaseURL), 0)
	if n > 0 {
		logger.Info("the schema is up to date now", "migrations", n)
	}
	return err
}

func prepareSubscriptions(ctx context.Context, db *dbconn.Conn, specs []subscription.Spec, logger *slog.Logger) error {
	if len(specs) == 0 {
		logger.Info("the environment names no subscription: those of the database are delivered")
		return nil
	}
	changes, err := admin.ApplyClaimed(ctx, db, specs)
	if err != nil {
		return err
	}
	for _, c := range changes {
		i := slices.IndexFunc(specs, func(s subscription.Spec) bool { return s.Name == c.Name })
		level, args := slog.LevelInfo, []any{"subscription", c.Name, "topics", specs[i].Topics, "sink", destination.Redact(specs[i].Sink)}
		if len(c.Differences) > 0 { // somebody wrote something else there, perhaps another sidecar
			level, args = slog.LevelWarn, append(args, "differences", c.Differences)
		}
		logger.Log(ctx, level, "subscription "+c.Describe(), args...)
	}
	return nil
}

// relayConfig passes the settings on to the engine.
func relayConfig(s *config.Settings, specs []subscription.Spec, with sinks.Surroundings, registry prometheus.Registerer, spans *traces.Traces) relay.Config {
	return relay.Config{
		Servers:      relay.Servers{DatabaseURL: string(s.DatabaseURL), ReplicaURL: string(s.ReplicaURL)},
		Open:         spans.Around(destination.Open(with)),
		Defaults:     destination.Defaults,
		Name:         string(s.Name),
		Version:      buildVersion(),
		API:          apiOf(s),
		Declared:     admin.Declarations(specs),
		Follow:       relay.Follow(s.Follow),
		Retention:    s.Retention.OrTiny(),
		Lease:        s.Lease.OrTiny(),
		SaveInterval: s.SaveInterval.OrTiny(),
		PollMin:      s.PollMin.OrTiny(),
		PollMax:      s.PollMax.OrTiny(),
		MemoryLimit:  int64(s.MemoryLimit),
		WALBudget:    int64(s.WALBudget),

		Keep: relay.Keep{DeadRetention: time.Duration(s.DeadRetention), DiscardedRetention: time.Duration(s.DiscardedRetention)},

		DrainTimeout: s.DrainTimeout.OrTiny(),
		Logger:       with.Log,
		Registerer:   registry,
	}
}

// newRegistry returns a registry of our own with what the Go runtime and the process tell.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

package torture

import (
	"context"
	"math/rand/v2"
	"time"
)

// databaseFaults are those that applications notice, too.
var databaseFaults = []*Fault{
	{Name: "crash", About: "PostgreSQL is restarted in immediate mode", Hits: onDatabase, Repeats: all, Inject: restart("immediate")},
	{Name: "restart", About: "PostgreSQL is restarted in order", Hits: onDatabase, Delays: true, Inject: restart("fast")},
	{Name: "reuse", About: "a backend is killed after transactions that rolled back, so that their ids are handed out again",
		Hits: onDatabase, Repeats: all, Inject: reuseIDs},
	{Name: "terminate-all", About: "all connections to PostgreSQL are terminated", Hits: onDatabase,
		Inject: terminate("backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()")},
	{Name: "sync", About: "commits wait for a synchronous standby that does not answer", Hits: onDatabase,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			if err := w.db.waitForStandby(ctx, "nobody"); err != nil {
				return err
			}
			pause(ctx, span(rng, 500*time.Millisecond, 4*time.Second))
			return w.db.waitForStandby(ctx, "")
		}},
	{Name: "promote", About: "the primary is killed, and its standby is promoted", Hits: onDatabase, Repeats: all, Once: true,
		Possible: func(c *Config) bool { return c.Standby },
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			return promote(ctx, w, span(rng, 0, 500*time.Millisecond))
		}},
}

// promote makes the standby the primary. The standby may know of a publication that was dropped, and not that it was made again.
func promote(ctx context.Context, w *world, behind time.Duration) error {
	defer w.publication.without()()
	if err := w.db.promote(ctx, behind); err != nil || w.Follow != "stream" {
		return err
	}
	return w.db.try(ctx, publish)
}

func restart(mode string) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, _ *rand.Rand) error { return w.db.primary().Restart(ctx, mode) }
}

// terminate ends sessions, more than once: connections may be new, or in the middle of something.
func terminate(which string) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		for range 1 + rng.IntN(3) {
			if err := w.db.try(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+which); err != nil {
				return err
			}
			pause(ctx, span(rng, 0, 500*time.Millisecond))
		}
		return nil
	}
}

// waitForStandby makes commits wait for a standby of this name; none: for nobody.
func (d *database) waitForStandby(ctx context.Context, name string) error {
	if err := d.try(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'"); err != nil {
		return err
	}
	return d.try(ctx, "SELECT pg_reload_conf()")
}

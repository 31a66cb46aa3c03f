package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

func init() {
	register(90, Scenario{
		Name:  "idle",
		Title: "nothing to do: CPU time of the relay and of PostgreSQL, and WAL written",
		Run:   idle,
	})
}

func idle(ctx context.Context, b *Bench) (t report.Table, err error) {
	rest, duration := Pick(b, 3*time.Second, 20*time.Second), Pick(b, 4*time.Second, 30*time.Second)
	t.Notes = []string{
		"Shares of one core, after a few messages were delivered and some seconds have passed. The first row is PostgreSQL by itself, with the first",
		"system's tables: its background processes write a record of running transactions now and then, and autovacuum writes when it comes by.",
	}
	systems := b.everything()
	if !b.Full {
		systems = b.shorter(systems)
	}
	if len(systems) == 0 {
		return t, nil
	}
	none, err := b.One(ctx, systems[0], func(ctx context.Context, s system.System) (report.Row, error) {
		return b.idle(ctx, s, false, rest, duration)
	})
	none.System, none.Case = "nothing", "PostgreSQL alone"
	t.Rows = append(t.Rows, none)
	if err != nil {
		return t, err
	}
	rows, err := b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.idle(ctx, s, true, rest, duration)
	})
	t.Rows = append(t.Rows, rows...)
	return t, err
}

func (b *Bench) idle(ctx context.Context, s system.System, start bool, rest, duration time.Duration) (row report.Row, err error) {
	st, err := b.Stage(ctx, s, b.kindFor(s))
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	relay := []int{}
	if start {
		if err := errors.Join(st.Listen(ctx), st.Start(ctx)); err != nil {
			return row, err
		}
		relay = append(relay, st.Process.PID())
		made, err := st.Produce(ctx, load.Producer{Rate: 100, Duration: time.Second}, &load.Recorder{})
		if err == nil {
			_, err = st.AwaitArrived(ctx, made.Messages, arriveLimit)
		}
		if err != nil {
			return row, err
		}
	}
	if err := pause(ctx, rest); err != nil {
		return row, err
	}
	written, err := st.written(ctx)
	if err != nil {
		return row, err
	}
	// Not the stage's meter, which asks for dead tuples.
	m, err := b.Env.Meter(ctx, env.Watch{Relay: first(relay)})
	if err != nil {
		return row, err
	}
	began, own, postgres := time.Now(), env.Precise(relay...), env.Precise(b.Env.PG.Pid())
	err = pause(ctx, duration)
	own, postgres = env.Precise(relay...)-own, env.Precise(b.Env.PG.Pid())-postgres
	took := time.Since(began)
	costs, err := end(ctx, m, err)
	if err != nil {
		return row, err
	}
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	row = report.Row{Seconds: took.Seconds(), RelayPeak: costs.Relay.Peak}
	row.Add("relay", share(own), "% of a core")
	row.Add("postgres", share(postgres), "% of a core")
	row.Add("together", share(own+postgres), "% of a core")
	row.Add("WAL", float64(costs.WAL), "B")
	now, err := st.written(ctx)
	row.Add("rows written", float64(now-written), "")
	return row, err
}

// written is the number of rows that were written to the database's tables, as the statistics have it, which lag by a second.
func (st *Stage) written(ctx context.Context) (n int64, err error) {
	conn, err := st.connect(ctx)
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables").Scan(&n)
	return n, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// first is the first of a list, or 0.
func first(list []int) int {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

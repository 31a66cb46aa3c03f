package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	register(60, Scenario{
		Name:  "outage",
		Title: "of two destinations one is down for a while under 2,000 messages/s: the other's latency, retained WAL, and catching up",
		Run:   outages,
	})
}

const (
	outageRate = 2000
	// downPath is the webhook that goes down. The other destination is the stream.
	downPath = "/down"
)

// outage is the plan of one measurement.
type outage struct {
	before, down, after time.Duration
	limit               time.Duration // for catching up
}

func outages(ctx context.Context, b *Bench) (t report.Table, err error) {
	o := outage{before: 5 * time.Second, down: Pick(b, 15*time.Second, time.Minute), after: 3 * time.Second, limit: 90 * time.Second}
	if b.Full {
		o.before, o.after = 20*time.Second, 20*time.Second
	}
	t.Notes = []string{
		fmt.Sprintf("Down for %v: connections are closed without an answer. Latencies are those of the other destination, by when COMMIT returned.", o.down),
		"Back after: until the first delivery to the destination that was down (the relay probes it at growing intervals). Caught up: until it has",
		"all that was committed by then, the load going on. Retained WAL: that of all slots at most, meanwhile.",
	}
	t.Rows, err = b.Each(ctx, b.relays(twoDestinations(b), Pick(b, []string{"stream"}, nil)...),
		func(ctx context.Context, s system.System) (report.Row, error) { return b.outage(ctx, s, o) })
	return t, err
}

func twoDestinations(b *Bench) func(to system.Destination) []postrider.Subscription {
	return func(to system.Destination) []postrider.Subscription {
		second := postrider.Default(system.Destination{Webhook: b.Env.Hook.URL + downPath})[0]
		second.Name = "down"
		return append(postrider.Default(to), second)
	}
}

// outageRun is one measurement.
type outageRun struct {
	outage
	*Stage
	rec      *load.Recorder
	retained int64 // bytes

	began, fell, rose time.Time
	again, caughtUp   time.Duration // after rose; 0: not
}

func (b *Bench) outage(ctx context.Context, s system.System, o outage) (row report.Row, err error) {
	st, err := b.Stage(ctx, s, NATS)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := errors.Join(st.Listen(ctx), st.Start(ctx)); err != nil {
		return row, err
	}
	m, err := st.Meter(ctx)
	if err != nil {
		return row, err
	}
	r := &outageRun{outage: o, Stage: st, rec: &load.Recorder{}}
	made, err := r.run(ctx)
	costs, err := end(ctx, m, err)
	if err != nil {
		return row, err
	}
	if _, err := st.AwaitArrived(ctx, made.Messages, arriveLimit); err != nil {
		return row, err
	}
	times, err := st.Times(ctx)
	if err != nil {
		return row, err
	}
	row = report.Row{Messages: made.Messages, Seconds: made.Time.Seconds(), Rate: arrivedBy(times, r.began.Add(made.Time)) / made.Time.Seconds()}
	charge(&row, costs, made.Messages)
	r.figures(&row, times)
	return row, nil
}

// run produces until the destination has come back and caught up.
func (r *outageRun) run(ctx context.Context) (made load.Produced, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	producing, enough := context.WithCancel(groupCtx)
	defer enough()
	r.began = time.Now()
	group.Go(func() (err error) {
		p := load.Producer{Rate: outageRate, Connections: 8, Duration: r.before + r.down + r.limit + r.after}
		made, err = r.Produce(producing, p, r.rec)
		return err
	})
	group.Go(func() error {
		defer enough()
		return r.direct(groupCtx)
	})
	return made, group.Wait()
}

// direct takes the destination down and brings it back.
func (r *outageRun) direct(ctx context.Context) error {
	hook := r.bench.Env.Hook
	if err := pause(ctx, r.before); err != nil {
		return err
	}
	r.fell = time.Now()
	if err := hook.Answer(ctx, downPath, 0); err != nil {
		return err
	}
	if err := r.watchWAL(ctx, r.fell.Add(r.down)); err != nil {
		return err
	}
	r.rose = time.Now()
	if err := hook.Answer(ctx, downPath, 204); err != nil {
		return err
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	return pause(ctx, r.after)
}

// watchWAL looks until then how much WAL slots hold back.
func (r *outageRun) watchWAL(ctx context.Context, until time.Time) (err error) {
	conn, err := pgx.Connect(ctx, r.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for time.Now().Before(until) {
		var bytes int64
		err := conn.QueryRow(ctx, `SELECT coalesce(max(pg_current_wal_lsn() - restart_lsn), 0)::bigint FROM pg_replication_slots
			WHERE database = current_database()`).Scan(&bytes)
		if err != nil {
			return err
		}
		r.retained = max(r.retained, bytes)
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// catchUp waits until the destination has all that is committed.
func (r *outageRun) catchUp(ctx context.Context) error {
	at := func() (int64, error) { return r.bench.Env.Hook.Count(ctx, downPath) }
	before, err := at()
	for err == nil && time.Since(r.rose) < r.limit {
		var have int64
		committed := r.rec.Count() // before the deliveries are counted
		if have, err = at(); err != nil {
			break
		}
		if have > before && r.again == 0 {
			r.again = time.Since(r.rose)
		}
		if have >= committed {
			r.caughtUp = time.Since(r.rose)
			return nil
		}
		err = pause(ctx, 20*time.Millisecond)
	}
	return err
}

// figures has the other destination's latency in each phase.
func (r *outageRun) figures(row *report.Row, times []int64) {
	commits := r.rec.Times()
	all, _ := load.Latencies(commits, times, nil)
	row.Latency = all.Latency()
	warm := r.began.Add(warmUp)
	for _, phase := range []struct {
		name     string
		from, to time.Time
	}{{"p99 before", warm, r.fell}, {"p99 meanwhile", r.fell, r.rose}, {"p99 after", r.rose, time.Now()}} {
		h, _ := load.Latencies(commits, times, func(_ int64, at time.Time) bool { return !at.Before(phase.from) && at.Before(phase.to) })
		if l := h.Latency(); l != nil {
			row.Add(phase.name, l.P99, "ms")
		}
	}
	row.Add("WAL retained", megabytes(r.retained), "MiB")
	if r.caughtUp == 0 {
		row.Add("not caught up within", r.limit.Seconds(), "s")
		return
	}
	row.Add("back after", r.again.Seconds(), "s")
	row.Add("caught up after", r.caughtUp.Seconds(), "s")
}

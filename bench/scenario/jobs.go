package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/jobs"
)

func init() {
	register(20, Scenario{
		Name: "jobs-drain", Run: jobsDrain,
		Title: "a backlog of jobs that do nothing, by workers over HTTP in one process; peers tuned",
	})
	register(21, Scenario{
		Name: "jobs-effect", Run: jobsEffect,
		Title: "a backlog of jobs that write a row each, in the transaction that takes and settles them, over four connections",
	})
	register(22, Scenario{
		Name: "jobs-live", Run: jobsLive,
		Title: "1,000 jobs a second: from COMMIT to the begin of the handler",
	})
	register(23, Scenario{
		Name: "jobs-open-transaction", Run: jobsOpen,
		Title: "2,000 jobs a second while a transaction is held open: the first part beside the last",
	})
}

const jobConnections = 4

// named returns a peer.
func (b *Bench) named(names ...string) (list []system.System) {
	for _, s := range b.Peers {
		if slices.Contains(names, s.Name()) {
			list = append(list, s)
		}
	}
	return list
}

// drainJobs is Drain, with what was written beside.
func (b *Bench) drainJobs(ctx context.Context, s system.System, d Drain) (report.Row, error) {
	d.To = Nowhere
	return b.Drain(ctx, s, d)
}

func jobsDrain(ctx context.Context, b *Bench) (t report.Table, err error) {
	systems := append([]system.System{jobs.NewPull(jobs.Options{Concurrency: 1000})}, b.named("river tuned no-op", "graphile-worker tuned no-op")...)
	t.Rows, err = b.Median(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.drainJobs(ctx, s, Drain{Messages: Pick(b, 100_000, 200_000)})
	})
	t.Notes = append(slices.Clone(drainNotes), fmt.Sprintf("They take turns: of %d rounds of each the one in the middle. With Postrider the CPU of the worker's process is the destination's.", rounds))
	return t, err
}

func jobsEffect(ctx context.Context, b *Bench) (t report.Table, err error) {
	for _, batch := range []int{1, 10, 100} {
		options := jobs.Options{Concurrency: jobConnections, Batch: batch, Effect: true}
		systems := []system.System{jobs.NewSQL(options), jobs.NewPlain(options)}
		if batch == 1 {
			systems = append(systems, b.named("river tuned transactional")...)
		}
		rows, err := b.Median(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
			return b.drainJobs(ctx, s, Drain{Case: fmt.Sprintf("batches of %d", batch), Messages: Pick(b, 20_000, 200_000)})
		})
		t.Rows = append(t.Rows, rows...)
		if err != nil {
			return t, err
		}
	}
	t.Notes = append(slices.Clone(drainNotes), "River completes each job with JobCompleteTx, in the transaction of its row; it knows no batches.")
	return t, nil
}

func jobsLive(ctx context.Context, b *Bench) (t report.Table, err error) {
	for _, l := range []struct {
		kind   string
		system system.System
		notify bool
	}{
		{"", jobs.NewPull(jobs.Options{Concurrency: 100}), false},
		{"polls", jobs.NewSQL(jobs.Options{Concurrency: jobConnections, Batch: 10}), false},
		{"listens", jobs.NewSQL(jobs.Options{Concurrency: jobConnections, Batch: 10, Listen: true}), true},
	} {
		row, err := b.One(ctx, l.system, func(ctx context.Context, s system.System) (report.Row, error) {
			return b.jobsLive(ctx, s, jobLoad{kase: l.kind, rate: 1000, duration: Pick(b, 5*time.Second, 20*time.Second), notify: l.notify})
		})
		t.Rows = append(t.Rows, row)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func jobsOpen(ctx context.Context, b *Bench) (t report.Table, err error) {
	systems := []system.System{
		jobs.NewPull(jobs.Options{Concurrency: 100}),
		jobs.NewSQL(jobs.Options{Concurrency: jobConnections, Batch: 10, Effect: true}),
		jobs.NewPlain(jobs.Options{Concurrency: jobConnections, Batch: 10, Effect: true}),
	}
	systems = append(systems, b.named("river tuned no-op", "graphile-worker tuned no-op")...)
	t.Rows, err = b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.jobsLive(ctx, s, jobLoad{rate: 2000, duration: Pick(b, 15*time.Second, 5*time.Minute), open: true, window: Pick(b, 5*time.Second, time.Minute)})
	})
	return t, err
}

// jobLoad is how jobs are produced while workers run.
type jobLoad struct {
	kase             string
	rate             float64
	duration, window time.Duration // window: of the beginning and of the end, to be compared
	open, notify     bool          // a transaction is held open; the database notifies
}

// jobsLive produces at a steady rate while workers run.
func (b *Bench) jobsLive(ctx context.Context, s system.System, l jobLoad) (row report.Row, err error) {
	st, err := b.Stage(ctx, s, Nowhere)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if l.notify {
		if err := st.exec(ctx, "SELECT postrider.enable_notify()"); err != nil {
			return row, err
		}
	}
	if err := st.Start(ctx); err != nil {
		return row, err
	}
	if l.open {
		h, err := st.hold(ctx)
		if err != nil {
			return row, err
		}
		defer func() { _ = h.close(context.WithoutCancel(ctx)) }() // the database is dropped anyway
	}
	m, err := st.Meter(ctx)
	if err != nil {
		return row, err
	}
	m.Help(helpers(st.Process)...)
	rec := &load.Recorder{}
	began := time.Now()
	made, err := st.Produce(ctx, load.Producer{Rate: l.rate, Connections: 8, Duration: warmUp + l.duration}, rec)
	if err == nil {
		err = st.awaitCount(ctx, made.Messages, arriveLimit)
	}
	costs, err := end(ctx, m, err)
	if err != nil {
		return row, err
	}
	row = report.Row{Case: l.kase, Messages: made.Messages, Seconds: made.Time.Seconds()}
	charge(&row, costs, made.Messages)
	row.Add("produced", made.Rate(), "/s")
	if l.open {
		if err := st.pollInVain(ctx, &row); err != nil {
			return row, err
		}
	}
	file := system.TimesFile(st.Place)
	if err := errors.Join(st.Stop(), ctx.Err()); err != nil {
		return row, err
	}
	times, err := system.ReadTimes(file)
	if err != nil {
		return row, nil // a peer's worker does not write them
	}
	r := pressed{began: began.Add(warmUp), made: load.Produced{Messages: made.Messages, Time: made.Time - warmUp}, commits: rec.Times(), arrivals: times}
	h, missing := load.Latencies(r.commits, times, func(_ int64, at time.Time) bool { return at.After(r.began) })
	row.Latency = h.Latency()
	if missing > 0 {
		row.Add("not begun", float64(missing), "")
	}
	if l.window > 0 {
		r.compare(&row, l.window)
	}
	return row, nil
}

// polls are asked, to find the one in the middle.
const polls = 51

// pollInVain measures what a worker in SQL asks when there is nothing to do, in transactions that are rolled back.
func (st *Stage) pollInVain(ctx context.Context, row *report.Row) (err error) {
	p, ok := st.System.(interface{ EmptyPoll() string })
	if !ok {
		return nil
	}
	conn, err := st.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var took []time.Duration
	for range polls {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return fmt.Errorf("poll in vain: %w", err)
		}
		began := time.Now()
		tag, err := tx.Exec(ctx, p.EmptyPoll())
		took = append(took, time.Since(began))
		if err = errors.Join(err, tx.Rollback(ctx)); err != nil {
			return fmt.Errorf("poll in vain: %w", err)
		}
		if n := tag.RowsAffected(); n > 0 {
			return fmt.Errorf("poll in vain: there are %d jobs left", n)
		}
	}
	row.Add("empty poll", report.Milliseconds(middle(took)), "ms")
	return nil
}

func helpers(p system.Process) []int {
	if h, ok := p.(system.Helped); ok {
		return h.Helpers()
	}
	return nil
}

// awaitCount waits until n jobs are done, or what is done stands still for as long as limit.
func (st *Stage) awaitCount(ctx context.Context, n int64, limit time.Duration) error {
	last, moved := int64(-1), time.Now()
	for {
		have, err := st.Count(ctx)
		if err != nil || have >= n {
			return err
		}
		if have > last {
			last, moved = have, time.Now()
		} else if time.Since(moved) > limit {
			return fmt.Errorf("%d of %d jobs are done, and no more for %v", have, n, limit)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func (st *Stage) exec(ctx context.Context, sql string) error {
	conn, err := st.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

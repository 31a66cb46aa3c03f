package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

const (
	// pollEvery is how often the deliveries are counted.
	pollEvery = 10 * time.Millisecond
	// firstLimit is how long the first delivery may take, and how long the count may stand still.
	firstLimit = 30 * time.Second
)

// Drain says what to drain.
type Drain struct {
	To       Kind
	Case     string
	Messages int
	// Fill is how many messages the backlog has, where some are not delivered. Default: Messages.
	Fill int
	// Copies is how many deliveries each message makes. Default: 1.
	Copies int
	// Limit ends the measurement so long after the first delivery; what was delivered by then gives the rate. Default: a minute.
	Limit time.Duration
	// Prepare, if it is set, is called before the backlog is made.
	Prepare func(ctx context.Context, st *Stage) error
	// Filled, if it is set, is called when the backlog is there and nothing runs.
	Filled func(ctx context.Context, st *Stage) error
	// Meanwhile, if it is set, runs beside the deliveries, until its context ends.
	Meanwhile func(ctx context.Context, st *Stage) error
}

// pace is what the counting of a drain yields.
type pace struct {
	start, first, last time.Time
	firstCount, count  int64
}

// rate is that from the first delivery that was seen to the last.
func (p pace) rate() float64 {
	if seconds := p.last.Sub(p.first).Seconds(); seconds > 0 {
		return float64(p.count-p.firstCount) / seconds
	}
	return 0
}

// Drain makes a backlog, starts the system, and measures until all is delivered.
func (b *Bench) Drain(ctx context.Context, s system.System, d Drain) (row report.Row, err error) {
	d.Copies, d.Limit = max(d.Copies, 1), max(d.Limit, 0)
	if d.Limit == 0 {
		d.Limit = time.Minute
	}
	st, err := b.Stage(ctx, s, d.To)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if d.Prepare != nil {
		if err := d.Prepare(ctx, st); err != nil {
			return row, err
		}
	}
	if err := st.Fill(ctx, max(d.Fill, d.Messages)); err != nil {
		return row, err
	}
	if d.Filled != nil {
		if err := d.Filled(ctx, st); err != nil {
			return row, err
		}
	}
	end := st.beside(ctx, d.Meanwhile)
	p, costs, err := st.drain(ctx, int64(d.Messages*d.Copies), d.Limit)
	if err = errors.Join(err, end()); err != nil {
		return row, err
	}
	row = report.Row{Case: d.Case, Messages: p.count, Seconds: p.last.Sub(p.first).Seconds(), Rate: p.rate()}
	charge(&row, costs, p.count)
	row.Add("first after", p.first.Sub(p.start).Seconds(), "s")
	return row, nil
}

// beside runs what is to run beside the deliveries, until end is called.
func (st *Stage) beside(ctx context.Context, run func(context.Context, *Stage) error) (end func() error) {
	if run == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(ctx, st) }()
	return func() error { cancel(); return <-done }
}

// drain starts the system and counts until want deliveries were made or the limit is over.
func (st *Stage) drain(ctx context.Context, want int64, limit time.Duration) (p pace, c env.Costs, err error) {
	m, err := st.Meter(ctx)
	if err != nil {
		return p, c, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	counted, started := make(chan error, 1), make(chan struct{})
	p.start = time.Now()
	go func() { counted <- st.count(ctx, &p, want, limit, started) }()
	err = st.Start(ctx)
	if err == nil {
		m.Follow(st.Process.PID())
		m.Help(helpers(st.Process)...)
	} else {
		cancel()
	}
	close(started)
	err = errors.Join(err, <-counted)
	c, endErr := m.End(context.WithoutCancel(ctx))
	return p, c, errors.Join(err, endErr)
}

// count follows the deliveries. The process is looked after once it has started.
func (st *Stage) count(ctx context.Context, p *pace, want int64, limit time.Duration, started <-chan struct{}) error {
	moved := p.start
	if st.Kind == Nowhere { // it counts by itself, once it runs
		<-started
	}
	for {
		n, err := st.Count(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if n > p.count {
			moved, p.last, p.count = now, now, n
			if p.first.IsZero() {
				p.first, p.firstCount = now, n
			}
		}
		switch {
		case n >= want || !p.first.IsZero() && now.Sub(p.first) > limit:
			return nil
		case now.Sub(moved) > firstLimit:
			return fmt.Errorf("nothing was delivered for %v, after %d of %d", firstLimit, n, want)
		}
		select {
		case <-started:
			if err := st.Alive(); err != nil {
				return err
			}
		default:
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

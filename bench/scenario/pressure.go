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

// pressure is producers without a limit: 4 connections, 10 rows a transaction.
type pressure struct {
	duration time.Duration
	// alone is for how long they produce without a system that runs, in a database of their own, to compare; 0: not at all.
	alone time.Duration
	// window, if it is set, is how much of the beginning is compared with as much of the end.
	window time.Duration
	// open holds a transaction open the whole time, from when the system delivers.
	open bool
	// rest is how long deliveries are waited for at the end.
	rest time.Duration
}

func (p pressure) producer(d time.Duration) load.Producer {
	return load.Producer{Connections: 4, Rows: 10, Duration: d}
}

// pressed is what came of it.
type pressed struct {
	began             time.Time
	made              load.Produced
	costs             env.Costs // until the end of production
	commits, arrivals []int64
}

// Pressure measures a system under producers without a limit.
func (b *Bench) Pressure(ctx context.Context, s system.System, p pressure) (row report.Row, err error) {
	kind := b.kindFor(s)
	var alone pressed
	if p.alone > 0 {
		if alone, err = b.press(ctx, s, kind, pressure{duration: p.alone}, false); err != nil {
			return row, err
		}
	}
	with, err := b.press(ctx, s, kind, p, true)
	if err != nil {
		return row, err
	}
	row = with.row()
	if p.alone > 0 {
		row.Add("alone", alone.made.Rate(), "/s")
		row.Add("producers lose", 100*(1-with.made.Rate()/alone.made.Rate()), "%")
		row.Add("WAL added", row.WAL-float64(alone.costs.WAL)/float64(max(alone.made.Messages, 1)), "B/msg")
	}
	if p.window > 0 {
		with.compare(&row, p.window)
	}
	return row, nil
}

// press produces on a stage of its own.
func (b *Bench) press(ctx context.Context, s system.System, kind Kind, p pressure, start bool) (r pressed, err error) {
	st, err := b.Stage(ctx, s, kind)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	rec := &load.Recorder{}
	if start {
		if err := errors.Join(st.Listen(ctx), st.Start(ctx)); err != nil {
			return r, err
		}
	}
	if p.open {
		h, err := st.hold(ctx)
		if err != nil {
			return r, err
		}
		defer func() { _ = h.close(context.WithoutCancel(ctx)) }() // the database is dropped anyway
	}
	m, err := st.Meter(ctx)
	if err != nil {
		return r, err
	}
	r.began = time.Now()
	r.made, err = st.Produce(ctx, p.producer(p.duration), rec)
	r.costs, err = end(ctx, m, err)
	if err == nil && start {
		if _, err = st.AwaitArrived(ctx, r.made.Messages, p.rest); err == nil {
			r.arrivals, err = st.Times(ctx)
		}
	}
	r.commits = rec.Times()
	return r, errors.Join(err, ctx.Err())
}

// end ends the measurement, whatever went wrong before.
func end(ctx context.Context, m *env.Meter, before error) (env.Costs, error) {
	c, err := m.End(context.WithoutCancel(ctx))
	return c, errors.Join(before, err)
}

// row has what is delivered while the producers run, and how far behind that was.
func (r *pressed) row() report.Row {
	until := r.began.Add(r.made.Time)
	h, missing := load.Latencies(r.commits, r.arrivals, nil)
	delivered := arrivedBy(r.arrivals, until)
	row := report.Row{Messages: r.made.Messages, Seconds: r.made.Time.Seconds(), Rate: delivered / r.made.Time.Seconds(), Latency: h.Latency()}
	// Costs are those of what was delivered meanwhile: a relay that falls behind must not look cheap.
	charge(&row, r.costs, int64(delivered))
	row.WAL = float64(r.costs.WAL) / float64(max(r.made.Messages, 1))
	row.Add("produced", r.made.Rate(), "/s")
	row.Add("lag at most", r.lag(until).Seconds(), "s")
	row.Add("undelivered at the end", float64(r.made.Messages)-delivered, "")
	if missing > 0 {
		row.Add("not arrived", float64(missing), "")
	}
	return row
}

// lag is the age that the oldest undelivered message had at most, until a moment.
func (r *pressed) lag(until time.Time) (most time.Duration) {
	for n, committed := range r.commits {
		if committed == 0 {
			continue
		}
		arrived := until.UnixNano()
		if n < len(r.arrivals) && r.arrivals[n] != 0 {
			arrived = min(arrived, r.arrivals[n])
		}
		most = max(most, time.Duration(arrived-committed))
	}
	return most
}

// compare puts the beginning of the load beside its end.
func (r *pressed) compare(row *report.Row, window time.Duration) {
	last := r.began.Add(r.made.Time - window)
	for _, w := range []struct {
		name string
		from time.Time
	}{{"first", r.began}, {"last", last}} {
		to := w.from.Add(window)
		within := func(_ int64, at time.Time) bool { return !at.Before(w.from) && at.Before(to) }
		row.Add(w.name+" delivered", (arrivedBy(r.arrivals, to)-arrivedBy(r.arrivals, w.from))/window.Seconds(), "/s")
		row.Add(w.name+" produced", (arrivedBy(r.commits, to)-arrivedBy(r.commits, w.from))/window.Seconds(), "/s")
		if h, _ := load.Latencies(r.commits, r.arrivals, within); h.Latency() != nil {
			row.Add(w.name+" p99", h.Latency().P99, "ms")
		}
	}
}

package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

const (
	// warmUp is at the beginning of the load, and left out of the latencies: connections, plans and caches become warm.
	warmUp = time.Second
	// arriveLimit is how long after the last COMMIT arrivals are waited for.
	arriveLimit = 10 * time.Second
)

// Live says how to produce while a system delivers.
type Live struct {
	To   Kind
	Case string
	// Rate is the number of single-row transactions a second, for Duration and a second more to warm up.
	Rate     float64
	Duration time.Duration
	// Connections of the producer. Default: 8.
	Connections int
	// Limit is how long arrivals are waited for at the end. Default: 10 seconds.
	Limit time.Duration
}

// Live starts the system, produces at a steady rate, and measures from the return of COMMIT to the arrival.
func (b *Bench) Live(ctx context.Context, s system.System, l Live) (row report.Row, err error) {
	if l.Connections == 0 {
		l.Connections = 8
	}
	if l.Limit == 0 {
		l.Limit = arriveLimit
	}
	st, err := b.Stage(ctx, s, l.To)
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
	rec := &load.Recorder{}
	began := time.Now()
	made, err := st.Produce(ctx, load.Producer{Rate: l.Rate, Connections: l.Connections, Duration: warmUp + l.Duration}, rec)
	if err == nil {
		_, err = st.AwaitArrived(ctx, made.Messages, l.Limit)
	}
	costs, endErr := m.End(context.WithoutCancel(ctx))
	if err := errors.Join(err, ctx.Err(), endErr); err != nil {
		return row, err
	}
	times, err := st.Times(ctx)
	if err != nil {
		return row, err
	}
	h, missing := load.Latencies(rec.Times(), times, func(_ int64, at time.Time) bool { return at.Sub(began) > warmUp })
	row = report.Row{Case: l.Case, Messages: made.Messages, Seconds: made.Time.Seconds(), Latency: h.Latency()}
	charge(&row, costs, made.Messages)
	row.Rate = arrivedBy(times, began.Add(made.Time)) / made.Time.Seconds()
	row.Add("produced", made.Rate(), "/s")
	if missing > 0 {
		row.Add("not arrived", float64(missing), "")
	}
	return row, nil
}

// arrivedBy is the number of arrivals until t.
func arrivedBy(times []int64, t time.Time) (n float64) {
	for _, at := range times {
		if at != 0 && at <= t.UnixNano() {
			n++
		}
	}
	return n
}

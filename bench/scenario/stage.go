package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

// Stage is where one system is measured: a fresh database, with its tables, an empty destination, and its process once it was started.
// Whoever makes it closes it.
type Stage struct {
	system.Place
	System  system.System
	Kind    Kind
	Process system.Process // nil before Start

	// Streams are those that Count adds up. None: BENCH. A scenario that wants others adds them to the server.
	Streams []string

	bench    *Bench
	bridge   bridge.Server // nil: it is another kind
	database string
	filled   bool
	arrivals *env.Arrivals
	unlisten func()
	log      io.Closer
}

// Stage makes one for a system.
func (b *Bench) Stage(ctx context.Context, s system.System, kind Kind) (st *Stage, err error) {
	st = &Stage{System: s, Kind: kind, bench: b}
	st.To = b.Destination(kind)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare: %w", err), st.Close())
		}
	}()
	b.stages++
	if st.Dir, err = b.Env.NewDir(fmt.Sprintf("stage-%d", b.stages)); err != nil {
		return st, err
	}
	log, err := os.Create(filepath.Join(st.Dir, "bench.log"))
	if err != nil {
		return st, err
	}
	st.log = log
	st.Log = func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	if err := errors.Join(b.Env.NATS.Fresh(ctx), b.Env.Hook.Fresh(ctx)); err != nil {
		return st, err
	}
	if st.To.Bridge.Kind != "" {
		if st.bridge = b.bridge; st.bridge == nil {
			return st, fmt.Errorf("the destination %s does not run", kind)
		}
		if st.To.Bridge.Address, err = st.bridge.Fresh(ctx); err != nil {
			return st, err
		}
	}
	if st.database, st.Database, err = b.Env.NewDatabase(ctx); err != nil {
		return st, err
	}
	return st, s.Install(ctx, st.Place)
}

// Close stops the process and removes the database.
func (st *Stage) Close() error {
	errs := []error{st.Stop()}
	if st.unlisten != nil {
		st.unlisten()
	}
	if st.log != nil {
		errs = append(errs, st.log.Close())
	}
	if st.database != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, st.bench.Env.DropDatabase(ctx, st.database))
	}
	return errors.Join(errs...)
}

// Fill makes a backlog of messages 1 to n.
func (st *Stage) Fill(ctx context.Context, n int) error {
	conn, err := pgx.Connect(ctx, st.Database)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	st.filled = true
	err = st.System.Fill(ctx, conn, n)
	if err == nil {
		_, err = conn.Exec(ctx, "CHECKPOINT") // so that the backlog's pages are not written while it is measured
	}
	if err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// Start starts the system.
func (st *Stage) Start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	pins := st.bench.Env.Pins
	err = pins.Start(pin.Relay, func() (err error) {
		st.Process, err = st.System.Start(ctx, st.Place)
		return err
	})
	if err != nil {
		st.Process = nil
		return err
	}
	if err := pins.Move(pin.Destination, helpers(st.Process)...); err != nil {
		return err
	}
	if s, ok := st.System.(system.Settler); ok && !st.filled {
		return s.Settle(ctx, st.Place)
	}
	return nil
}

// Stop stops the system, if it runs.
func (st *Stage) Stop() error {
	if st.Process == nil {
		return nil
	}
	err := st.Process.Stop()
	st.Process = nil
	return err
}

// Alive returns an error if the system was started and has ended.
func (st *Stage) Alive() error {
	if st.Process != nil && syscall.Kill(st.Process.PID(), 0) != nil {
		return errors.New("the process has ended by itself")
	}
	return nil
}

// Meter begins to measure what all cost. The system's process may be started before or (then Meter.Follow names it) later.
func (st *Stage) Meter(ctx context.Context) (*env.Meter, error) {
	w := env.Watch{Database: st.Database}
	if st.Process != nil {
		w.Relay = st.Process.PID()
	}
	switch st.Kind {
	case NATS:
		w.Destination = []int{st.bench.Env.NATS.PID()}
	case Webhook:
		w.Destination = []int{st.bench.Env.Hook.PID()}
	}
	if st.bridge != nil {
		w.Destination = st.bridge.PIDs()
	}
	if t, ok := st.System.(system.Tables); ok {
		w.Tables = t.Tables()
	}
	return st.bench.Env.Meter(ctx, w)
}

// Count returns how many messages have been delivered.
func (st *Stage) Count(ctx context.Context) (int64, error) {
	switch {
	case st.Kind == NATS:
		return st.bench.Env.NATS.Count(ctx, st.Streams...)
	case st.Kind == Webhook:
		return st.bench.Env.Hook.Count(ctx, "")
	case st.bridge != nil:
		return st.bridge.Count(ctx)
	case st.Process == nil:
		return 0, nil
	}
	c, ok := st.Process.(system.Counter)
	if !ok {
		return 0, errors.New("the system has no destination and does not count")
	}
	return c.Count()
}

// Listen takes down from now on when messages arrive. At the receiver of webhooks that is always so.
func (st *Stage) Listen(ctx context.Context) (err error) {
	if st.bridge != nil {
		return st.bridge.Listen(ctx)
	}
	if st.Kind == NATS {
		st.arrivals, st.unlisten, err = st.bench.Env.NATS.Subscribe("bench.>")
	}
	return err
}

// Arrived returns how many messages have arrived since Listen.
func (st *Stage) Arrived(ctx context.Context) (int64, error) {
	if st.bridge != nil {
		return st.bridge.Arrived(ctx)
	}
	if st.arrivals != nil {
		return st.arrivals.Count(), nil
	}
	return st.bench.Env.Hook.Count(ctx, "/")
}

// Times returns when each message arrived, by n, in nanoseconds since 1970; 0: not yet.
func (st *Stage) Times(ctx context.Context) ([]int64, error) {
	if st.bridge != nil {
		return st.bridge.Times(ctx)
	}
	if st.arrivals != nil {
		return st.arrivals.Times(), nil
	}
	return st.bench.Env.Hook.Times(ctx, "/")
}

// Produce runs a producer that enqueues as the system wants it, into the stage's database.
func (st *Stage) Produce(ctx context.Context, p load.Producer, rec *load.Recorder) (load.Produced, error) {
	p.Database, p.Enqueue = st.Database, st.System.Enqueue
	return p.Run(ctx, rec)
}

// AwaitArrived waits until n messages have arrived; when limit is over, it returns false.
func (st *Stage) AwaitArrived(ctx context.Context, n int64, limit time.Duration) (bool, error) {
	for deadline := time.Now().Add(limit); ; {
		have, err := st.Arrived(ctx)
		if err == nil {
			err = st.Alive()
		}
		if err != nil || have >= n {
			return have >= n, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// pause waits; the end of ctx is an error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// charge enters costs into a row, for so many messages.
func charge(row *report.Row, c env.Costs, messages int64) {
	if messages == 0 {
		return
	}
	per := func(u system.Usage) float64 { return u.CPU.Seconds() * 100_000 / float64(messages) }
	row.RelayCPU, row.PostgresCPU, row.DestinationCPU = per(c.Relay), per(c.Postgres), per(c.Destination)
	row.RelayPeak, row.Dead = c.Relay.Peak, c.Dead
	row.WAL = float64(c.WAL) / float64(messages)
}

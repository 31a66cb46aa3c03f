package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/wal"
)

const (
	recheckMin = 100 * time.Microsecond // until a decoded transaction that was not yet visible is looked for again
	recheckMax = 50 * time.Millisecond
)

// Config is what a feed needs.
type Config struct {
	// Open connects to the server.
	Open func(ctx context.Context) (Server, error)
	// Fatal says of an error that connecting again mends nothing.
	Fatal func(err error) bool
	// Report takes note of what fails, and with a nil error of what works again.
	Report func(p Part, err error)

	Log     *slog.Logger
	Metrics Metrics

	// PollMin and PollMax bound the time between ticks that read the table.
	PollMin, PollMax time.Duration
	// MemoryLimit is in bytes; a quarter of it is for what the stream has brought and nobody sees yet, an eighth for a window's rows.
	MemoryLimit int64
	// BusyRate is how many transactions a second outrun a stream that is late.
	BusyRate float64
}

// Part is a part of the feed that can fail.
type Part uint8

// The parts.
const (
	Looking   Part = iota // ticks
	Streaming             // following the log; without it ticks read the table
	Listening             // for notifications; without them ticks wait for their timer
)

// Metrics are the feed's.
type Metrics struct {
	Ticks     *prometheus.CounterVec // by kind: stream, table, audit
	Gaps      prometheus.Counter     // times that the stream was given up for the table
	Completed prometheus.Counter     // windows that the stream did not bring whole
}

// Feed finds newly committed messages and hands them to the live runners' queues: see the package documentation. It drives the
// core: asks the server what that wants to know, waits as it says, and tells others what it has found out.
type Feed struct {
	config  Config
	core    *core  // the goroutine's alone, but for what the runners read of it
	answer  answer // the last one: used again
	failing bool   // the last tick has failed

	Backlog   *wal.Backlog
	wake      chan struct{} // requests, notifications
	Active    atomic.Bool   // there are live runners: a stream is worth having
	activated chan struct{} // has a value when Active changed
	outrun    chan struct{} // has a value when the stream does not keep up
	tickedAt  atomic.Int64  // unix nanoseconds of the last tick that succeeded
	fromTable atomic.Int64  // transactions that ticks have read from the table
	follows   atomic.Bool   // the last tick followed the stream
	held      atomic.Int64  // bytes of the log that the slot holds back

	mu      sync.Mutex
	pending []*queue.Queue // have come since the last tick began
}

// New returns a feed that nobody drives yet.
func New(c Config) *Feed {
	backlog := wal.NewBacklog(c.MemoryLimit / 4)
	return &Feed{config: c, Backlog: backlog,
		core: newCore(bounds{pollMin: c.PollMin, pollMax: c.PollMax, rowBytes: c.MemoryLimit / 8, busyRate: c.BusyRate}, backlog),
		wake: make(chan struct{}, 1), activated: make(chan struct{}, 1), outrun: make(chan struct{}, 1)}
}

// Streaming says whether ticks follow the stream; it is for the one who makes them.
func (f *Feed) Streaming() bool { return f.core.trust.streaming }

// Follows says whether ticks follow the stream, as far as the last one told.
func (f *Feed) Follows() bool { return f.follows.Load() }

// HoldsBack returns the bytes of the log that the stream's slot holds back, as of a moment ago; 0 without a stream.
func (f *Feed) HoldsBack() int64 { return f.held.Load() }

// TickedAt returns when the last tick succeeded, in Unix nanoseconds; zero: none has.
func (f *Feed) TickedAt() int64 { return f.tickedAt.Load() }

// NewQueue returns a queue that the feed can serve.
func (f *Feed) NewQueue(match *topic.Matcher, b *queue.Budget, wake func()) *queue.Queue {
	return queue.New(match, b, wake, &f.core.out.ended)
}

// Attach makes the queue receive everything after the next closed snapshot, which it is told.
func (f *Feed) Attach(q *queue.Queue) {
	f.mu.Lock()
	f.pending = append(f.pending, q)
	f.mu.Unlock()
	async.Signal(f.wake)
}

// Closed returns the newest closed snapshot. All its messages are in the queues before it is returned here.
func (f *Feed) Closed() snapshot.Closed {
	if c := f.core.win.newest.Load(); c != nil {
		return *c
	}
	return snapshot.Closed{}
}

// Run ticks until ctx is cancelled. It returns an error that is fatal, such as one of snapshots in memory that have become void.
func (f *Feed) Run(ctx context.Context) error {
	retry := async.ReconnectBackoff()
	healthy := func() {
		if f.failing {
			f.failing = false
			f.config.Report(Looking, nil)
			retry.Reset()
		}
	}
	for {
		err := f.runSession(ctx, healthy)
		switch {
		case ctx.Err() != nil:
			return nil
		case f.config.Fatal(err):
			return err
		}
		if errors.Is(err, store.ErrUnreadable) {
			f.config.Log.Warn("feed: a message cannot be read with the others: each is read by itself now", "error", err)
			continue
		}
		f.failing = true
		f.config.Report(Looking, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

func (f *Feed) runSession(ctx context.Context, healthy func()) error {
	s, err := f.config.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := f.tick(ctx, s)
		if err != nil {
			return err
		}
		healthy()
		timer.Reset(wait)
		if err := f.await(ctx, timer); err != nil {
			return err
		}
	}
}

// await returns when it is time for the next tick.
func (f *Feed) await(ctx context.Context, timer *time.Timer) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-f.wake:
			return nil
		case <-f.Backlog.Wake:
			wait := f.core.woken(time.Now())
			if wait == 0 {
				return nil
			}
			timer.Reset(wait)
		}
	}
}

// tick makes one tick, if anybody wants it, and returns how long to wait for the next at most.
func (f *Feed) tick(ctx context.Context, s Server) (time.Duration, error) {
	a := f.Begin(time.Now())
	for !a.Over() {
		if err := f.Put(ctx, s, &a); err != nil {
			return 0, err
		}
		a, _ = f.Took(time.Now())
	}
	f.tickedAt.Store(time.Now().UnixNano())
	f.follows.Store(f.core.trust.streaming)
	return a.Wait, nil
}

// Begin begins a tick.
func (f *Feed) Begin(now time.Time) Ask {
	f.mu.Lock()
	if len(f.pending) > 0 {
		f.core.out.arriving = append(f.core.out.arriving, f.pending...)
		clear(f.pending)
		f.pending = f.pending[:0]
	}
	f.mu.Unlock()
	a := f.core.next(now)
	if active := !f.core.out.nobody(); f.Active.Swap(active) != active {
		async.Signal(f.activated)
	}
	return a
}

// Put asks what the core wants to know. An error ends the tick, and the session.
func (f *Feed) Put(ctx context.Context, s Server, a *Ask) error {
	if a.ForStream() {
		return f.awaitStream(ctx, a.Wait)
	}
	err := a.put(ctx, s, &f.answer)
	if err != nil && f.core.failed(store.Unreadable(err)) {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	}
	return err
}

// awaitStream waits for anything from the stream.
func (f *Feed) awaitStream(ctx context.Context, most time.Duration) error {
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.Backlog.Wake:
	case <-timeout.C:
	}
	return nil
}

// Took goes on with a tick after Put, and tells others what has come of it.
func (f *Feed) Took(now time.Time) (Ask, News) {
	a := f.core.took(now, &f.answer)
	n := f.core.takeNews()
	f.tell(&n)
	return a, n
}

func (f *Feed) tell(n *News) {
	if n.kind != "" {
		f.config.Metrics.Ticks.WithLabelValues(n.kind).Inc()
	}
	if n.completed {
		f.config.Metrics.Completed.Inc()
	}
	if n.fromTable > 0 {
		f.fromTable.Add(n.fromTable)
	}
	if n.following {
		f.config.Log.Info("feed: following the stream")
	}
	if n.Ended != "" {
		f.config.Log.Info("feed: reading the table", "because", n.Ended)
		f.config.Metrics.Gaps.Inc()
	}
	if n.Outrun {
		async.Signal(f.outrun)
	}
}

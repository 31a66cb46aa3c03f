package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/wal"
)

const (
	recheckMin = 100 * time.Microsecond // until a decoded transaction that was not yet visible is looked for again
	recheckMax = 50 * time.Millisecond
)

// feed finds newly committed messages and hands them to the live runners' queues: see the package documentation. It drives the
// core: asks the server what that wants to know, waits as it says, and tells others what it has found out.
type feed struct {
	log         *slog.Logger
	metrics     *metrics
	health      *health.Health
	incarnation string
	connect     func(context.Context) (*dbconn.Conn, error)
	decoder     *message.Decoder

	core    *core // the goroutine's alone, but for what the runners read of it
	backlog *wal.Backlog
	answer  answer // the last one: used again
	failing bool   // the last tick has failed

	wake      chan struct{} // requests, notifications
	active    atomic.Bool   // there are live runners: a stream is worth having
	activated chan struct{} // has a value when active changed
	outrun    chan struct{} // has a value when the stream does not keep up
	tickedAt  atomic.Int64  // unix nanoseconds of the last tick that succeeded
	fromTable atomic.Int64  // transactions that ticks have read from the table

	mu      sync.Mutex
	pending []*queue // have come since the last tick began
}

func newFeed(c *Config, m *metrics, incarnation, source string, connect func(context.Context) (*dbconn.Conn, error)) *feed {
	backlog := wal.NewBacklog(c.MemoryLimit / 4)
	return &feed{
		log: c.Logger, metrics: m, incarnation: incarnation, connect: connect, decoder: message.NewDecoder(source), backlog: backlog,
		core: newCore(bounds{pollMin: c.PollMin, pollMax: c.PollMax, rowBytes: c.MemoryLimit / 8, busyRate: c.busyRate}, backlog),
		wake: make(chan struct{}, 1), activated: make(chan struct{}, 1), outrun: make(chan struct{}, 1),
	}
}

// newQueue returns a queue that the feed can serve.
func (f *feed) newQueue(match *topic.Matcher, b *budget, wake func()) *queue {
	return newQueue(match, b, wake, &f.core.out.ended)
}

// attach makes the queue receive everything after the next closed snapshot, which it is told.
func (f *feed) attach(q *queue) {
	f.mu.Lock()
	f.pending = append(f.pending, q)
	f.mu.Unlock()
	async.Signal(f.wake)
}

// closedWindow returns the newest closed snapshot. All its messages are in the queues before it is returned here.
func (f *feed) closedWindow() snapshot.Closed {
	if c := f.core.win.newest.Load(); c != nil {
		return *c
	}
	return snapshot.Closed{}
}

// run ticks until ctx is cancelled. It returns errLost when snapshots in memory have become void.
func (f *feed) run(ctx context.Context) error {
	retry := async.ReconnectBackoff()
	healthy := func() {
		if f.failing {
			f.failing = false
			f.health.Works(health.CannotLook)
			retry.Reset()
		}
	}
	for {
		err := f.runSession(ctx, healthy)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrLost) || isFatal(err):
			return err
		}
		if errors.Is(err, store.ErrUnreadable) {
			f.log.Warn("feed: a message cannot be read with the others: each is read by itself now", "error", err)
			continue
		}
		f.failing = true
		f.health.Failed(health.CannotLook, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

func (f *feed) runSession(ctx context.Context, healthy func()) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	reader := &outboxReader{session: store.NewSession(conn.Conn), incarnation: f.incarnation, decoder: f.decoder}
	defer reader.session.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := f.tick(ctx, reader)
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
func (f *feed) await(ctx context.Context, timer *time.Timer) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-f.wake:
			return nil
		case <-f.backlog.Wake:
			wait := f.core.woken(time.Now())
			if wait == 0 {
				return nil
			}
			timer.Reset(wait)
		}
	}
}

// tick makes one tick, if anybody wants it, and returns how long to wait for the next at most.
func (f *feed) tick(ctx context.Context, s server) (time.Duration, error) {
	a := f.begin(time.Now())
	for a.what != askNothing {
		if err := f.put(ctx, s, &a); err != nil {
			return 0, err
		}
		a = f.core.took(time.Now(), &f.answer)
		f.tell(f.core.takeNews())
	}
	f.tickedAt.Store(time.Now().UnixNano())
	return a.wait, nil
}

// begin lets the core begin a tick.
func (f *feed) begin(now time.Time) ask {
	f.mu.Lock()
	if len(f.pending) > 0 {
		f.core.out.arriving = append(f.core.out.arriving, f.pending...)
		clear(f.pending)
		f.pending = f.pending[:0]
	}
	f.mu.Unlock()
	a := f.core.next(now)
	if active := !f.core.out.nobody(); f.active.Swap(active) != active {
		async.Signal(f.activated)
	}
	return a
}

// put asks what the core wants to know. An error ends the tick, and the session.
func (f *feed) put(ctx context.Context, s server, a *ask) error {
	if a.what == askStream {
		return f.awaitStream(ctx, a.wait)
	}
	err := a.put(ctx, s, &f.answer)
	if err != nil && f.core.failed(store.Unreadable(err)) {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	}
	return err
}

// awaitStream waits for anything from the stream.
func (f *feed) awaitStream(ctx context.Context, most time.Duration) error {
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.backlog.Wake:
	case <-timeout.C:
	}
	return nil
}

// tell passes on what a step has brought.
func (f *feed) tell(n news) {
	if n.kind != "" {
		f.metrics.tick(n.kind)
	}
	if n.completed {
		f.metrics.completed.Inc()
	}
	if n.fromTable > 0 {
		f.fromTable.Add(n.fromTable)
	}
	if n.following {
		f.log.Info("feed: following the stream")
	}
	if n.ended != "" {
		f.log.Info("feed: reading the table", "because", n.ended)
		f.metrics.gaps.Inc()
	}
	if n.outrun {
		async.Signal(f.outrun)
	}
}

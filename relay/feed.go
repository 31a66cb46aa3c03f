package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal"
)

const (
	closeEvery    = 100 * time.Millisecond // between audits while messages are dispatched
	closeRows     = 4000                   // or after so many messages
	idleEvery     = time.Second            // between ticks of an idle stream
	recheckMin    = 100 * time.Microsecond // until a decoded transaction that was not yet visible is looked for again
	recheckMax    = 50 * time.Millisecond
	maxWindowRows = 10_000
)

// feed finds newly committed messages and hands them to the live runners' queues: see the package documentation. Everything
// below mu is the feed's goroutine's alone.
type feed struct {
	config      *Config
	log         *slog.Logger
	metrics     *metrics
	health      *health
	incarnation string
	connect     func(context.Context) (*dbconn.Conn, error)
	decoder     *message.Decoder
	backlog     *wal.Backlog
	wake        chan struct{} // requests, notifications
	ended       atomic.Bool   // some live queue takes no more
	active      atomic.Bool   // there are live runners: a stream is worth having
	activated   chan struct{} // has a value when active changed
	closedNow   atomic.Pointer[snapshot.Closed]
	tickedAt    atomic.Int64  // unix nanoseconds of the last tick that succeeded
	outrun      chan struct{} // has a value when the stream does not keep up
	fromTable   atomic.Int64  // transactions that ticks have read from the table

	mu      sync.Mutex
	pending []*queue // waiting for the next closed snapshot

	session *session
	// The first so many of pending were there before this tick's snapshot. A later one waits for the next tick: its cursor may
	// have been taken over from a relay that had seen more than this snapshot does.
	attaching int

	live     []*queue
	routes   map[string][]*queue
	closed   snapshot.Snapshot
	win      *snapshot.Window
	closedOn time.Time
	ticked   time.Time
	delay    time.Duration

	failing   bool
	failures  int            // in a row, of ticks on a connection that was there
	streaming bool           // ticks take their rows from the stream
	mark      *tick          // the first tick after a gap
	open      []opened       // dispatched since the last close
	visible   []*message.Row // the array of takeVisible
	staged    []*queue       // the array of dispatch
	slow      int            // windows in a row that the stream was too late for
	pace      pace           // whether the stream keeps up
	distrust  time.Duration  // how long to read the table after the stream was found to have a hole
	trustFrom time.Time
	heads     bool // the next rows are read without what they carry: with it that has failed
}

// opened names a row that was dispatched in the window that is open.
type opened struct {
	xid uint64
	row snapshot.Ident
}

func newFeed(c *Config, m *metrics, incarnation, source string, connect func(context.Context) (*dbconn.Conn, error)) *feed {
	return &feed{
		config: c, log: c.Logger, metrics: m, incarnation: incarnation, connect: connect,
		decoder: message.NewDecoder(source), backlog: wal.NewBacklog(c.MemoryLimit / 4),
		wake: make(chan struct{}, 1), activated: make(chan struct{}, 1), outrun: make(chan struct{}, 1),
		routes: make(map[string][]*queue), win: &snapshot.Window{N: 1},
	}
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
	if c := f.closedNow.Load(); c != nil {
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
			f.health.works(cannotLook)
			retry.Reset()
		}
	}
	for {
		err := f.runSession(ctx, healthy)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLost) || isFatal(err):
			return err
		}
		if errors.Is(err, errUnreadable) {
			f.log.Warn("feed: a message cannot be read with the others: each is read by itself now", "error", err)
			continue
		}
		f.failing = true
		f.health.failed(cannotLook, err)
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
	f.session = newSession(conn.Conn)
	defer f.session.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := f.next(ctx)
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
			if f.streaming {
				return nil
			}
			// While ticks read the table, the stream only makes the next one come sooner.
			timer.Reset(max(0, f.config.PollMin-time.Since(f.ticked)))
		}
	}
}

// next makes one tick, if anybody wants it, and returns how long to wait for the next at most.
func (f *feed) next(ctx context.Context) (time.Duration, error) {
	f.prune()
	f.mu.Lock()
	waiting := len(f.pending)
	f.mu.Unlock()
	f.attaching = waiting
	if active := len(f.live)+waiting > 0; f.active.Swap(active) != active {
		async.Signal(f.activated)
	}
	var err error
	switch {
	case len(f.live) == 0 && waiting == 0:
		f.streaming, f.mark = false, nil
		f.tickedAt.Store(time.Now().UnixNano())
		return time.Hour, nil
	case f.failures >= mostFailures:
		err = f.giveUpWindow(ctx)
	case len(f.live) == 0:
		err = f.skip(ctx)
	case !f.streaming:
		err = f.read(ctx)
	case waiting > 0 || f.closeDue():
		err = f.audit(ctx)
	default:
		err = f.release(ctx)
	}
	if err != nil {
		f.failures++
		return 0, err
	}
	f.failures = 0
	f.ticked = time.Now()
	f.tickedAt.Store(f.ticked.UnixNano())
	return f.delay, nil
}

// mostFailures is how often in a row a window may fail to be read or counted.
const mostFailures = 2

// giveUpWindow sends all live runners back to the table instead of asking for the same window for ever: what is cut off, by whom and
// for what reason ever, they read in pages, which become smaller until they pass.
func (f *feed) giveUpWindow(ctx context.Context) error {
	t, err := f.session.look(ctx, f.incarnation)
	if err != nil {
		return err
	}
	f.endStreaming("a window could not be read")
	for _, q := range f.live {
		q.refuse(f.win)
	}
	f.close(t.snap)
	f.delay = 0
	return nil
}

func (f *feed) closeDue() bool {
	return len(f.open) >= closeRows || time.Since(f.closedOn) >= f.closeAfter()
}

func (f *feed) closeAfter() time.Duration {
	if len(f.open) > 0 {
		return closeEvery
	}
	return idleEvery
}

// skip closes at the current snapshot: with nobody live there is nothing to dispatch.
func (f *feed) skip(ctx context.Context) error {
	t, err := f.session.look(ctx, f.incarnation)
	if err != nil {
		return err
	}
	f.streaming, f.mark = false, nil
	f.close(t.snap)
	f.delay = 0
	return nil
}

// release is a tick of the stream: what is held and has become visible is dispatched in commit order.
func (f *feed) release(ctx context.Context) error {
	t, err := f.session.look(ctx, f.incarnation)
	if err != nil {
		return err
	}
	f.metrics.tick("stream")
	left := f.takeVisible(t.snap)
	if _, gap, _ := f.backlog.State(); gap {
		f.endStreaming("the stream lost rows")
		return nil
	}
	f.setDelay(left)
	return nil
}

// takeVisible dispatches held transactions that the snapshot sees and returns how many it does not see yet.
func (f *feed) takeVisible(s snapshot.Snapshot) (left int) {
	visible, left := f.backlog.Take(s, f.visible)
	f.dispatchOpen(slices.DeleteFunc(visible, func(r *message.Row) bool { return f.closed.Sees(r.XID) })) // dispatched from the table already
	clear(visible)
	f.visible = fifo.Emptied(visible)
	return left
}

func (f *feed) setDelay(left int) {
	if left > 0 {
		if f.delay > recheckMax || f.delay < recheckMin {
			f.delay = recheckMin / 2
		}
		f.delay = min(2*f.delay, recheckMax)
		return
	}
	f.delay = max(f.closeAfter()-time.Since(f.closedOn), 0)
}

// close ends the window at s: everything that s sees has been dispatched.
func (f *feed) close(s snapshot.Snapshot) {
	at := &snapshot.Closed{N: f.win.N, Snapshot: s}
	f.closed, f.closedOn = s, time.Now()
	f.win = &snapshot.Window{N: at.N + 1, Base: s}
	f.open = f.open[:0]
	f.closedNow.Store(at)

	f.mu.Lock()
	pending := f.pending[:f.attaching:f.attaching]
	f.pending = f.pending[f.attaching:]
	f.mu.Unlock()
	f.attaching = 0
	for _, q := range pending {
		if _, _, refused := q.state(); !refused { // else its runner has stopped meanwhile
			f.live = append(f.live, q)
			q.attach(*at)
		}
	}
	if len(pending) > 0 {
		clear(f.routes)
	}
}

// careful makes the next read of rows one of their heads, if it is the rows that this one has failed for.
func (f *feed) careful(err error) error {
	if !f.heads && unreadable(err) {
		f.heads = true
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return err
}

// endStreaming makes ticks read the table until the gap rule is satisfied.
func (f *feed) endStreaming(why string) {
	if f.streaming {
		f.log.Info("feed: reading the table", "because", why)
		f.metrics.gaps.Inc()
	}
	f.streaming, f.mark, f.slow, f.pace, f.delay = false, nil, 0, pace{}, 0
	f.backlog.Overflow()
}

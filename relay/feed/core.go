package feed

import (
	"slices"
	"time"

	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal"
)

const (
	mostFailures = 2         // so often in a row a tick may fail before the runners are sent back to the table
	endlessly    = time.Hour // between ticks that nobody wants
)

// core is the feed without I/O and without a clock: next begins a tick and says what to ask the server, took takes in the answer
// and says what to ask then, until there is nothing more to ask. What it finds it pushes into the queues, which never wait. Its
// state is its one caller's alone.
type core struct {
	bounds  bounds
	backlog *wal.Backlog  // what the stream has brought and no snapshot shows yet
	out     audience      // who gets what is found
	win     openWindow    // what was dispatched since the last close
	trust   trust         // whether the stream carries the rows
	phase   phase         // of the tick under way
	began   time.Time     // the tick under way
	at      point         // what it sees
	audit   audit         // what it has counted, if it closes
	ticked  time.Time     // the last tick's end
	delay   time.Duration // until the next tick at most

	failures int            // ticks that failed in a row
	heads    bool           // the next rows are read without what they carry: with it that has failed
	visible  []*message.Row // the array of takeVisible
	news     News           // what the caller has not told yet
}

// bounds are the settings that the core's decisions rest on.
type bounds struct {
	pollMin, pollMax time.Duration // between ticks that read the table
	rowBytes         int64         // of the rows of one window
	busyRate         float64       // transactions a second that outrun a stream which is late
}

// phase says which answer the tick under way waits for.
type phase uint8

const (
	idle            phase = iota
	skipping              // a snapshot to close at: nobody is live
	givingUp              // a snapshot to close at: the live runners read the table
	showing               // a snapshot that shows what the stream has brought
	readingWindow         // the window's rows
	demotingWindow        // its topics: it is too large
	counting              // the window's rows by transaction
	awaiting              // the stream, which is behind
	completing            // the rows of transactions that the stream did not bring
	demotingMissing       // their topics: they are too many
)

// News is what a step has brought that others are to hear of.
type News struct {
	kind      string // of tick; "": none has read anything
	following bool   // ticks follow the stream from here on
	Ended     string // why they do not any more
	completed bool   // a window was completed from the table
	Outrun    bool   // the stream does not keep up
	fromTable int64  // transactions that were read from the table
	Streamed  int    // rows that were dispatched because the stream had brought them
}

func newCore(b bounds, backlog *wal.Backlog) *core {
	return &core{bounds: b, backlog: backlog, out: audience{routes: make(map[string][]*queue.Queue)}, win: openWindow{win: &snapshot.Window{N: 1}}}
}

// next begins a tick, if anybody wants one. Queues that arrive after it wait for the next tick: their cursors may have been taken over
// from a relay that had seen more than this tick's snapshot does.
func (c *core) next(now time.Time) Ask {
	c.out.prune()
	c.began = now
	switch {
	case c.out.nobody():
		c.trust.streaming, c.trust.marked = false, false
		c.phase = idle
		return Ask{Wait: endlessly}
	case c.failures >= mostFailures:
		c.phase = givingUp
		return Ask{what: askTick}
	case len(c.out.live) == 0:
		c.phase = skipping
		return Ask{what: askTick}
	case !c.trust.streaming:
		return c.read(now)
	case len(c.out.arriving) > 0 || c.closeDue(now):
		c.phase = counting
		return Ask{what: askCounts, base: c.win.closed}
	}
	c.phase = showing
	return Ask{what: askTick}
}

// took takes in the answer to what was asked last.
func (c *core) took(now time.Time, a *answer) Ask {
	switch c.phase {
	case skipping:
		c.trust.streaming, c.trust.marked = false, false
		c.close(now, a.at.snap)
		c.delay = 0
	case givingUp:
		c.giveUp(now, a.at.snap)
	case showing:
		c.show(now, a.at.snap)
	case readingWindow:
		return c.tookWindow(now, a)
	case demotingWindow:
		c.out.demote(a.topics, c.win.win)
		c.finishRead(now, &rowSet{over: true})
	case counting:
		return c.tookCounts(now, a)
	case awaiting:
		return c.awaitStream(now)
	case completing:
		return c.tookMissing(now, a)
	case demotingMissing:
		c.out.demote(a.topics, c.win.win)
		return c.finishCompletion(now, &rowSet{})
	}
	return c.rest(now)
}

// rest ends the tick.
func (c *core) rest(now time.Time) Ask {
	c.phase, c.failures, c.ticked = idle, 0, now
	return Ask{Wait: c.delay}
}

// failed ends the tick under way: the server has not answered. It says whether the answer was to have been rows that cannot be read
// together; then the next tick reads their heads alone.
func (c *core) failed(unreadable bool) (careful bool) {
	careful = unreadable && !c.heads && (c.phase == readingWindow || c.phase == completing)
	c.heads = c.heads || careful
	c.failures++
	c.phase = idle
	return careful
}

// woken returns how long to wait for the next tick now that the stream has brought something: while ticks read the table, that only
// makes the next one come sooner.
func (c *core) woken(now time.Time) time.Duration {
	if c.trust.streaming {
		return 0
	}
	return max(0, c.bounds.pollMin-now.Sub(c.ticked))
}

// takeNews returns what has happened since the last call.
func (c *core) takeNews() News {
	n := c.news
	c.news = News{}
	return n
}

// giveUp sends all live runners back to the table instead of asking for the same window for ever: what is cut off, by whom and for
// what reason ever, they read in pages, which become smaller until they pass.
func (c *core) giveUp(now time.Time, s snapshot.Snapshot) {
	c.endStreaming("a window could not be read")
	for _, q := range c.out.live {
		q.Refuse(c.win.win)
	}
	c.close(now, s)
	c.delay = 0
}

// show dispatches in commit order what the stream has brought and has become visible.
func (c *core) show(now time.Time, s snapshot.Snapshot) {
	c.news.kind = "stream"
	left := c.takeVisible(s)
	if _, gap, _ := c.backlog.State(); gap {
		c.endStreaming(lostRows)
		return
	}
	c.setDelay(now, left)
}

// takeVisible dispatches the backlog's transactions that the snapshot sees and returns how many it does not see yet.
func (c *core) takeVisible(s snapshot.Snapshot) (left int) {
	visible, left := c.backlog.Take(s, c.visible)
	// What the last closed snapshot sees was dispatched from the table.
	rows := slices.DeleteFunc(visible, func(r *message.Row) bool { return c.win.closed.Sees(r.XID) })
	c.win.add(rows)
	c.news.Streamed += len(rows)
	c.out.dispatch(rows, c.win.win)
	clear(visible)
	c.visible = fifo.Emptied(visible)
	return left
}

// close ends the window at s: everything that s sees has been dispatched.
func (c *core) close(now time.Time, s snapshot.Snapshot) {
	at := c.win.close(now, s)
	c.out.admit(at)
}

func (c *core) closeDue(now time.Time) bool {
	return len(c.win.dispatched) >= closeRows || now.Sub(c.win.closedOn) >= c.win.closeAfter()
}

// setDelay lets a tick of the stream come soon while something is not visible yet, else when the window is to be closed.
func (c *core) setDelay(now time.Time, left int) {
	if left > 0 {
		if c.delay > recheckMax || c.delay < recheckMin {
			c.delay = recheckMin / 2
		}
		c.delay = min(2*c.delay, recheckMax)
		return
	}
	c.delay = max(c.win.closeAfter()-now.Sub(c.win.closedOn), 0)
}

package feed

import (
	"time"

	"github.com/postrider/postrider/relay/wal"
)

const (
	slowWindows    = 3                // so many windows in a row that the stream was too late for, and ticks read the table
	distrustFirst  = time.Second      // without a stream that was found to have a hole; doubled each time
	distrustMost   = time.Minute      //
	distrustForget = 10 * time.Minute // of windows without a hole
)

// Why ticks read the table. HasHole is the one that tells of a fault outside.
const (
	lostRows = "the stream lost rows"
	HasHole  = "the stream has a hole: is publication postrider as it should be? `postrider doctor` tells"
	isBehind = "the stream is behind"
	isOutrun = "the producers outrun the stream"
)

// trust says whether ticks may take their rows from the stream. It is pure.
type trust struct {
	streaming bool
	mark      point         // the first tick after a gap,
	marked    bool          // if there was one
	useUp     bool          // a transaction id is to be used up before the next mark
	slow      int           // windows in a row that the stream was too late for
	pace      pace          // whether it keeps up
	distrust  time.Duration // how long to read the table after it was found to have a hole
	from      time.Time     // until then it is not relied on
}

// allowed says whether the stream may be relied on some time soon.
func (t *trust) allowed(now time.Time) bool { return !now.Before(t.from) }

// judge applies the gap rule to a tick of the table: the stream may carry the rows once every transaction that ran at the first tick
// after the gap has ended and the stream has passed that tick. Else it could hand out a message before an older one that it never saw.
func (t *trust) judge(stream *wal.Backlog, at *point) (follow bool) {
	connected, gap, passed := stream.State()
	switch {
	case !connected || gap:
		t.marked = false
	case !t.marked:
		t.mark, t.marked = *at, true
		stream.Ask(t.mark.lsn)
	case at.snap.Xmin() < t.mark.snap.Xmax:
	case passed < t.mark.lsn:
		stream.Ask(t.mark.lsn)
	default:
		t.streaming, t.marked, t.slow = true, false, 0
		return true
	}
	return false
}

// completed takes note of a window that the stream has not brought whole, and says why it is not to be relied on any more, "" if it is.
func (t *trust) completed(now time.Time, gap, passed bool) (why string) {
	t.slow++
	switch {
	case gap:
		return lostRows
	case passed:
		// Such as a publication that was dropped: trust it again later and later.
		t.distrust = min(max(2*t.distrust, distrustFirst), distrustMost)
		t.from = now.Add(t.distrust)
		return HasHole
	case t.slow >= slowWindows:
		return isBehind
	}
	return ""
}

// whole takes note of a window that the stream has brought whole.
func (t *trust) whole(now time.Time) {
	t.slow = 0
	if now.Sub(t.from) > distrustForget {
		t.distrust = 0
	}
}

// endStreaming makes ticks read the table until the gap rule is satisfied.
func (c *core) endStreaming(why string) {
	if c.trust.streaming {
		c.news.Ended = why
	}
	c.trust.streaming, c.trust.marked, c.trust.slow, c.trust.pace = false, false, 0, pace{}
	c.delay = 0
	c.backlog.Overflow()
}

package feed

import "time"

const (
	restRows = 16                    // ticks that find so many rows rest as long as they take, those that find more rest longer,
	restMost = 12                    // up to so many times as long,
	restMax  = 20 * time.Millisecond // but not longer than this
)

// read begins a tick of the table: one statement returns a snapshot and the rows of the window, which it closes.
func (c *core) read(now time.Time) Ask {
	connected, gap, _ := c.backlog.State()
	if connected && gap && c.trust.allowed(now) {
		c.backlog.Restart() // before the snapshot is taken: what commits after it is kept
		c.trust.marked, c.trust.useUp = false, true
	}
	c.phase = readingWindow
	return Ask{what: askWindow, base: c.win.closed, useUp: c.trust.useUp, heads: c.heads, most: c.bounds.rowBytes}
}

func (c *core) tookWindow(now time.Time, a *answer) Ask {
	c.heads, c.trust.useUp = false, false
	c.news.kind = "table"
	c.at = a.at
	c.backlog.Take(c.at.snap, nil)
	if a.rows.over {
		c.phase = demotingWindow
		return Ask{what: askWindowTopics, base: c.win.closed, seen: c.at.snap}
	}
	c.finishRead(now, &a.rows)
	return c.rest(now)
}

func (c *core) finishRead(now time.Time, found *rowSet) {
	n, transactions := found.count()
	c.news.fromTable += transactions
	c.out.dispatch(c.win.without(found.rows), c.win.win)
	c.close(now, c.at.snap)
	c.adaptDelay(n, now.Sub(c.began))
	if c.trust.judge(c.backlog, &c.at) {
		c.news.following = true
		c.delay = 0
	}
}

// adaptDelay ticks fast while there is traffic, less often where each tick has much to do anyway, and slower and slower while there is
// none.
func (c *core) adaptDelay(found int, took time.Duration) {
	if found > 0 {
		rest := time.Duration(min(found, restMost*restRows)) * took / restRows
		c.delay = max(c.bounds.pollMin, min(rest, restMax))
		return
	}
	c.delay = min(max(c.delay*3/2, c.bounds.pollMin), c.bounds.pollMax)
}

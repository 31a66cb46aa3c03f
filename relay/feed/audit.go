package feed

import "time"

const auditWait = 100 * time.Millisecond // for a stream that is behind

// audit is what a tick that closes has counted.
type audit struct {
	counts  map[uint64]int // rows of the window in the table, by transaction
	missing []uint64       // transactions of which not all were dispatched
	left    int            // transactions that the stream has brought and nobody sees yet
	until   time.Time      // for how long to wait for the stream
	passed  bool           // it had passed the tick when what it had brought was compared: what was missing then is a hole

	// As the stream did when the tick came.
	window        time.Duration
	brought, late int
}

// tookCounts goes on with a tick that closes: the rows of the window are counted per transaction in the table and compared with what
// was dispatched. A transaction's streamed rows are a subset of its rows in the table, so equal counts are equal sets.
func (c *core) tookCounts(now time.Time, a *answer) Ask {
	c.news.kind = "audit"
	c.at = a.at
	c.audit = audit{counts: a.counts, window: now.Sub(c.win.closedOn), until: now.Add(auditWait)}
	c.audit.brought, c.audit.late = c.backlog.Pace()
	if c.compare(); len(c.audit.missing) == 0 {
		c.trust.whole(now)
		return c.finishAudit(now)
	}
	c.backlog.Ask(c.at.lsn)
	return c.awaitStream(now)
}

// compare dispatches what the stream has brought, and compares.
func (c *core) compare() {
	c.audit.left = c.takeVisible(c.at.snap)
	c.audit.missing = c.win.missing(c.audit.counts)
}

// awaitStream waits until the stream has passed the tick, but not for long, and asks the table for what it has not brought by then.
func (c *core) awaitStream(now time.Time) Ask {
	_, gap, passed := c.backlog.State()
	if !gap && passed < c.at.lsn && now.Before(c.audit.until) {
		c.phase = awaiting
		return Ask{what: askStream, Wait: c.audit.until.Sub(now)}
	}
	c.audit.passed = passed >= c.at.lsn
	if c.compare(); len(c.audit.missing) == 0 {
		c.trust.whole(now)
		return c.finishAudit(now)
	}
	c.phase = completing
	return Ask{what: askTransactions, xids: c.audit.missing, heads: c.heads, most: c.bounds.rowBytes}
}

func (c *core) tookMissing(now time.Time, a *answer) Ask {
	c.heads = false
	if a.rows.over {
		c.phase = demotingMissing
		return Ask{what: askTransactionTopics, xids: c.audit.missing}
	}
	return c.finishCompletion(now, &a.rows)
}

// finishCompletion dispatches what the stream has not brought and draws the consequences for the stream.
func (c *core) finishCompletion(now time.Time, found *rowSet) Ask {
	c.out.dispatch(c.win.without(found.rows), c.win.win)
	c.news.completed = true
	_, gap, _ := c.backlog.State()
	if why := c.trust.completed(now, gap, c.audit.passed); why != "" {
		c.endStreaming(why)
	}
	return c.finishAudit(now)
}

// finishAudit closes the window.
func (c *core) finishAudit(now time.Time) Ask {
	c.close(now, c.at.snap)
	x := &c.audit
	switch {
	case !c.trust.streaming:
	case c.trust.pace.outrun(x.window, len(x.counts), x.brought, x.late, c.bounds.busyRate):
		c.endStreaming(isOutrun)
		c.news.Outrun = true
	default:
		c.setDelay(now, x.left)
	}
	c.audit = audit{}
	return c.rest(now)
}

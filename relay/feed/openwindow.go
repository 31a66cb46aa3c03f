package feed

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// closeEvery is the time between audits while messages are dispatched: so often progress may move.
const closeEvery = 100 * time.Millisecond

const (
	closeRows = 4000        // an audit comes after so many messages in any case
	idleEvery = time.Second // between ticks of an idle stream
)

// openWindow is what was dispatched since the last closed snapshot.
type openWindow struct {
	win        *snapshot.Window
	closed     snapshot.Snapshot // where it begins
	closedOn   time.Time
	dispatched []opened
	newest     atomic.Pointer[snapshot.Closed] // for the runners: all that it sees is in their queues
}

// opened names a row that was dispatched in the window that is open.
type opened struct {
	xid uint64
	row snapshot.Ident
}

// add remembers rows for the audit.
func (w *openWindow) add(rows []*message.Row) {
	for _, r := range rows {
		w.dispatched = append(w.dispatched, opened{r.XID, r.Ident()})
	}
}

// close ends the window at s and begins the next.
func (w *openWindow) close(now time.Time, s snapshot.Snapshot) snapshot.Closed {
	at := &snapshot.Closed{N: w.win.N, Snapshot: s}
	w.closed, w.closedOn = s, now
	w.win = &snapshot.Window{N: at.N + 1, Base: s}
	w.dispatched = w.dispatched[:0]
	w.newest.Store(at)
	return *at
}

func (w *openWindow) closeAfter() time.Duration {
	if len(w.dispatched) > 0 {
		return closeEvery
	}
	return idleEvery
}

// without returns the rows that were not dispatched since the last close.
func (w *openWindow) without(rows []*message.Row) []*message.Row {
	had := make(map[opened]bool, len(w.dispatched))
	for _, o := range w.dispatched {
		had[o] = true
	}
	return slices.DeleteFunc(rows, func(r *message.Row) bool { return had[opened{r.XID, r.Ident()}] })
}

// missing returns the transactions of which fewer rows were dispatched than the table has.
func (w *openWindow) missing(counts map[uint64]int) (xids []uint64) {
	had := make(map[uint64]int, len(counts))
	for _, o := range w.dispatched {
		had[o.xid]++
	}
	for xid, n := range counts {
		if had[xid] < n {
			xids = append(xids, xid)
		}
	}
	return xids
}

package relay

import (
	"sync"

	"github.com/jackc/pglogrepl"
)

// streamTx is a committed transaction as the stream brought it.
type streamTx struct {
	xid   uint64
	rows  []*row
	bytes int64
}

// held keeps decoded transactions in commit order until a tick shows them visible. The stream's reader adds, the feed takes;
// neither ever waits for the other. Past its bound it drops everything and says that there is a gap.
type held struct {
	wake  chan struct{} // has a value when there is something new
	limit int64

	mu        sync.Mutex
	txs       []*streamTx
	bytes     int64
	connected bool
	gap       bool          // something was lost since the last restart
	passed    pglogrepl.LSN // everything committed before it has been added
	nudge     func()        // asks the server how far it is
}

func newHeld(limit int64) *held {
	return &held{wake: make(chan struct{}, 1), limit: limit, gap: true}
}

// connect says that a stream has begun; nudge asks the server for its position.
func (h *held) connect(nudge func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txs, h.bytes, h.passed = nil, 0, 0
	h.connected, h.gap, h.nudge = true, true, nudge
	signal(h.wake)
}

func (h *held) disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txs, h.bytes = nil, 0
	h.connected, h.gap, h.nudge = false, true, nil
	signal(h.wake)
}

// add takes a transaction over. It returns false if there was no room, or if something before it was lost: whoever took it
// would have it before an older one that only the table has.
func (h *held) add(tx *streamTx) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gap {
		signal(h.wake)
		return false
	}
	if h.bytes+tx.bytes > h.limit {
		h.overflowLocked()
		return false
	}
	h.txs = append(h.txs, tx)
	h.bytes += tx.bytes
	signal(h.wake)
	return true
}

// overflow drops everything: the table has it all.
func (h *held) overflow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overflowLocked()
}

func (h *held) overflowLocked() {
	h.txs, h.bytes, h.gap = nil, 0, true
	signal(h.wake)
}

// advance says how far the stream has come.
func (h *held) advance(lsn pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lsn > h.passed {
		h.passed = lsn
		if h.nudge != nil {
			signal(h.wake)
		}
	}
}

// state returns whether a stream is connected, whether something was lost since restart, and how far the stream has come.
func (h *held) state() (connected, gap bool, passed pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connected, h.gap, h.passed
}

// restart begins to count on what is held from here.
func (h *held) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gap = false
}

// ask makes the server say how far it is, if a stream is connected.
func (h *held) ask() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nudge != nil {
		h.nudge()
	}
}

// take removes and returns the transactions that s sees, in commit order, and the number of those that stay.
func (h *held) take(s Snapshot) (visible []*streamTx, left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := h.txs[:0]
	for _, tx := range h.txs {
		if s.Sees(tx.xid) {
			visible = append(visible, tx)
			h.bytes -= tx.bytes
		} else {
			rest = append(rest, tx)
		}
	}
	clear(h.txs[len(rest):])
	h.txs = rest
	return visible, len(rest)
}

// signal wakes whoever waits for the channel, which has room for one value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

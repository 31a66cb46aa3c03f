package relay

import (
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// streamTx is a committed transaction as the stream brought it.
type streamTx struct {
	xid   uint64
	rows  []*message.Row
	bytes int64
	late  bool // more time than usual passed between its commit and its sending
}

// heldTx is a transaction among the held ones.
type heldTx struct {
	xid   uint64
	rows  int
	bytes int64
}

// held keeps decoded transactions in commit order until a tick shows them visible. The stream's reader adds, the feed takes;
// neither ever waits for the other. Past its bound it drops everything and says that there is a gap.
type held struct {
	wake     chan struct{} // has a value when there is something new
	limit    int64
	received atomic.Uint64 // id of the last transaction that the stream brought a row of

	mu        sync.Mutex
	txs       []heldTx
	rows      []*message.Row // of all txs, in order
	bytes     int64
	connected bool
	gap       bool          // something was lost since the last restart
	passed    pglogrepl.LSN // everything committed before it has been added
	awaited   pglogrepl.LSN // until it has passed this, every step is worth a wake-up; 0: none is
	nudge     func()        // asks the server how far it is
	brought   int           // transactions that were added since pace was called,
	late      int           // and how many of them were late
}

func newHeld(limit int64) *held {
	return &held{wake: make(chan struct{}, 1), limit: limit, gap: true}
}

// connect says that a stream has begun; nudge asks the server for its position.
func (h *held) connect(nudge func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked()
	h.passed, h.awaited, h.brought, h.late = 0, 0, 0, 0
	h.connected, h.gap, h.nudge = true, true, nudge
	async.Signal(h.wake)
}

func (h *held) disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked()
	h.connected, h.gap, h.nudge = false, true, nil
	async.Signal(h.wake)
}

// add takes a transaction's rows over. It returns false if there was no room, or if something before it was lost: whoever took it
// would have it before an older one that only the table has.
func (h *held) add(tx *streamTx) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gap {
		async.Signal(h.wake)
		return false
	}
	if h.bytes+tx.bytes > h.limit {
		h.overflowLocked()
		return false
	}
	h.txs = append(h.txs, heldTx{tx.xid, len(tx.rows), tx.bytes})
	h.rows = append(h.rows, tx.rows...)
	h.bytes += tx.bytes
	h.brought++
	if tx.late {
		h.late++
	}
	async.Signal(h.wake)
	return true
}

// pace returns how many transactions have come since the last call, and how many of them late.
func (h *held) pace() (brought, late int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	brought, late = h.brought, h.late
	h.brought, h.late = 0, 0
	return brought, late
}

// overflow drops everything: the table has it all.
func (h *held) overflow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overflowLocked()
}

func (h *held) overflowLocked() {
	h.dropLocked()
	h.gap = true
	async.Signal(h.wake)
}

func (h *held) dropLocked() { h.txs, h.rows, h.bytes = nil, nil, 0 }

// advance says how far the stream has come. Unless somebody has asked for that, there is nothing to do about it: what was
// added has given its own signal, and a second one would cost a tick for nothing.
func (h *held) advance(lsn pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lsn <= h.passed {
		return
	}
	h.passed = lsn
	if h.awaited == 0 {
		return
	}
	async.Signal(h.wake)
	if lsn >= h.awaited {
		h.awaited = 0
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

// ask makes the server say how far it is, if a stream is connected, and gives signals until it has passed the position.
func (h *held) ask(until pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nudge != nil {
		h.awaited = until
		h.nudge()
	}
}

// take removes the transactions that s sees, and returns the number of those that stay. It appends their rows, in commit order.
func (h *held) take(s snapshot.Snapshot, to []*message.Row) (visible []*message.Row, left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rest, kept, rows := h.txs[:0], h.rows[:0], h.rows
	for _, tx := range h.txs {
		if s.Sees(tx.xid) {
			to = append(to, rows[:tx.rows]...)
			h.bytes -= tx.bytes
		} else {
			rest = append(rest, tx)
			kept = append(kept, rows[:tx.rows]...)
		}
		rows = rows[tx.rows:]
	}
	clear(h.rows[len(kept):])
	h.txs, h.rows = rest, kept
	return to, len(rest)
}

// holds returns how many transactions there are, and their bytes.
func (h *held) holds() (txs int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.txs), h.bytes
}

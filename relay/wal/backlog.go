package wal

import (
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// transaction is a committed transaction as the stream brought it.
type transaction struct {
	xid   uint64
	rows  []*message.Row
	bytes int64
	late  bool // more time than usual passed between its commit and its sending
}

// unseenTx is a transaction among the held ones.
type unseenTx struct {
	xid   uint64
	rows  int
	bytes int64
}

// Backlog keeps decoded transactions in commit order until a tick shows them visible. The stream's reader adds, the feed takes;
// neither ever waits for the other. Past its bound it drops everything and says that there is a gap.
type Backlog struct {
	Wake     chan struct{} // has a value when there is something new
	limit    int64
	Received atomic.Uint64 // id of the last transaction that the stream brought a row of

	mu        sync.Mutex
	txs       []unseenTx
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

func NewBacklog(limit int64) *Backlog {
	return &Backlog{Wake: make(chan struct{}, 1), limit: limit, gap: true}
}

// Connect says that a stream has begun; nudge asks the server for its position.
func (h *Backlog) Connect(nudge func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked()
	h.passed, h.awaited, h.brought, h.late = 0, 0, 0, 0
	h.connected, h.gap, h.nudge = true, true, nudge
	async.Signal(h.Wake)
}

func (h *Backlog) Disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked()
	h.connected, h.gap, h.nudge = false, true, nil
	async.Signal(h.Wake)
}

// add takes a transaction's rows over. It returns false if there was no room, or if something before it was lost: whoever took it
// would have it before an older one that only the table has.
func (h *Backlog) add(tx *transaction) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gap {
		async.Signal(h.Wake)
		return false
	}
	if h.bytes+tx.bytes > h.limit {
		h.overflowLocked()
		return false
	}
	h.txs = append(h.txs, unseenTx{tx.xid, len(tx.rows), tx.bytes})
	h.rows = append(h.rows, tx.rows...)
	h.bytes += tx.bytes
	h.brought++
	if tx.late {
		h.late++
	}
	async.Signal(h.Wake)
	return true
}

// Pace returns how many transactions have come since the last call, and how many of them late.
func (h *Backlog) Pace() (brought, late int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	brought, late = h.brought, h.late
	h.brought, h.late = 0, 0
	return brought, late
}

// Overflow drops everything: the table has it all.
func (h *Backlog) Overflow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overflowLocked()
}

func (h *Backlog) overflowLocked() {
	h.dropLocked()
	h.gap = true
	async.Signal(h.Wake)
}

func (h *Backlog) dropLocked() { h.txs, h.rows, h.bytes = nil, nil, 0 }

// advance says how far the stream has come. Unless somebody has asked for that, there is nothing to do about it: what was
// added has given its own signal, and a second one would cost a tick for nothing.
func (h *Backlog) advance(lsn pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lsn <= h.passed {
		return
	}
	h.passed = lsn
	if h.awaited == 0 {
		return
	}
	async.Signal(h.Wake)
	if lsn >= h.awaited {
		h.awaited = 0
	}
}

// State returns whether a stream is connected, whether something was lost since restart, and how far the stream has come.
func (h *Backlog) State() (connected, gap bool, passed pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connected, h.gap, h.passed
}

// Restart begins to count on what is held from here.
func (h *Backlog) Restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gap = false
}

// Ask makes the server say how far it is, if a stream is connected, and gives signals until it has passed the position.
func (h *Backlog) Ask(until pglogrepl.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nudge != nil {
		h.awaited = until
		h.nudge()
	}
}

// Take removes the transactions that s sees, and returns the number of those that stay. It appends their rows, in commit order.
func (h *Backlog) Take(s snapshot.Snapshot, to []*message.Row) (visible []*message.Row, left int) {
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

// Holds returns how many transactions there are, and their bytes.
func (h *Backlog) Holds() (txs int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.txs), h.bytes
}

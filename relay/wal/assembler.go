package wal

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
)

// lateAfter is how much more than the shortest time between a commit and its sending makes a transaction late.
const lateAfter = 2 * time.Millisecond

// Assembler makes transactions of what one connection brings, and hands them to the backlog. It does no I/O.
type Assembler struct {
	parser  *pgoutput
	backlog *Backlog
	tx      *transaction  // under way; nil: none is
	spare   transaction   // what tx points to
	lost    bool          // rows of the transaction under way were dropped
	asked   atomic.Bool   // the server, or the feed, wants to be told how far this has come
	seen    pglogrepl.LSN // received, to be acknowledged
	lag     time.Duration // shortest so far between a commit and its sending; an fsync lies between them
}

func NewAssembler(d *message.Decoder, b *Backlog) *Assembler {
	return &Assembler{parser: newPgoutput(d), backlog: b, lag: time.Hour}
}

// Take takes in what one CopyData message of the server holds (pglogrepl, "Streaming Replication Protocol" in PostgreSQL's documentation).
func (a *Assembler) Take(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		if k.ReplyRequested {
			a.asked.Store(true)
		}
		a.seen = max(a.seen, k.ServerWALEnd)
		a.backlog.advance(a.seen)
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		return a.change(x)
	}
	return nil
}

func (a *Assembler) change(x pglogrepl.XLogData) error {
	kind, row, err := a.parser.parse(x.WALData, !a.lost)
	if err != nil {
		return err
	}
	switch kind {
	case msgBegin:
		a.tx, a.lost = &a.spare, false
	case msgInsert:
		a.insert(row)
	case msgCommit:
		// The position is that of the commit record's end only after the transaction has been added.
		if a.tx != nil && len(a.tx.rows) > 0 {
			a.tx.late = a.isLate(x.ServerTime.Sub(a.parser.committed))
			a.backlog.add(a.tx)
		}
		a.end()
		a.seen = max(a.seen, x.WALStart)
		a.backlog.advance(x.WALStart)
	}
	return nil
}

// isLate says whether the server has sent a transaction later than it can. Both times are its own.
func (a *Assembler) isLate(lag time.Duration) bool {
	a.lag = min(a.lag, lag)
	return lag > a.lag+lateAfter
}

// insert adds a row to the transaction under way, unless that has grown past the bound: then it becomes a gap.
func (a *Assembler) insert(row *message.Row) {
	if row == nil || a.tx == nil {
		return
	}
	a.tx.xid = row.XID
	a.backlog.Received.Store(row.XID)
	a.tx.rows = append(a.tx.rows, row)
	a.tx.bytes += row.Size()
	if a.tx.bytes > a.backlog.limit {
		a.end()
		a.lost = true
		a.backlog.Overflow()
	}
}

// end forgets the transaction under way.
func (a *Assembler) end() {
	clear(a.spare.rows)
	a.tx, a.spare = nil, transaction{rows: fifo.Emptied(a.spare.rows)}
}

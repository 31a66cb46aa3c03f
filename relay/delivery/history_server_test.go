package delivery

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// simServer is a model of a PostgreSQL server: of transactions, of what a snapshot sees of them, of the outbox and of the log. A
// transaction that has written its commit record may become visible much later, and in another order: it waits for a standby.
type simServer struct {
	now       time.Time
	moment    int // counts insertions and transactions that become visible
	nextXID   uint64
	completed uint64 // the highest transaction id that has ended
	floor     uint64 // ids below it are not handed out again after a crash
	nextID    int64
	lsn       pglogrepl.LSN
	running   []*simTx // in order of id; those that only wait to become visible included
	wal       []*simTx // in order of their commit records
	table     []*simRow
	committed []*simRow // all that ever became visible
	rows      map[int64]*simRow
	keys      map[string][]*simRow
	holes     bool // some stream has left something out
}

type simTx struct {
	xid        uint64
	rows       []*simRow
	savepoints []int // numbers of rows before them
	written    bool  // its commit record is in the log
	end        pglogrepl.LSN
}

type simRow struct {
	message.Row
	inserted, visible int // moments; visible is 0 before
	holed, emptied    bool
}

// simPriorities are those of messages, by their ids.
var simPriorities = []int16{2, 2, 1, 3, 2, 4, 1, 2, 4}

const simSource = "source"

var simStart = time.Unix(1_800_000_000, 0).UTC()

func newSimServer() *simServer {
	return &simServer{now: simStart, nextXID: 700, completed: 699, nextID: 1, lsn: 1000,
		rows: make(map[int64]*simRow), keys: make(map[string][]*simRow)}
}

// snapshot is pg_current_snapshot(): xmax is one past the highest id that has ended.
func (s *simServer) snapshot() snapshot.Snapshot {
	snap := snapshot.Snapshot{Xmax: s.completed + 1}
	for _, tx := range s.running {
		if tx.xid < snap.Xmax {
			snap.Xip = append(snap.Xip, tx.xid)
		}
	}
	return snap
}

func (s *simServer) begin() *simTx {
	tx := &simTx{xid: s.nextXID}
	s.nextXID++
	s.running = append(s.running, tx)
	return tx
}

// open returns one of the transactions that can go on, nil if there is none.
func (s *simServer) open(n int) *simTx { return s.pick(n, false) }

// waiting returns one of the transactions that wait to become visible.
func (s *simServer) waiting(n int) *simTx { return s.pick(n, true) }

func (s *simServer) pick(n int, written bool) *simTx {
	var some []*simTx
	for _, tx := range s.running {
		if tx.written == written {
			some = append(some, tx)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[n%len(some)]
}

func (s *simServer) insert(tx *simTx, topic, key string, due time.Time) {
	s.moment++
	s.lsn++
	r := &simRow{inserted: s.moment}
	r.ID, r.XID, r.Topic, r.Key, r.DeliverAt, r.CreatedAt = s.nextID, tx.xid, topic, key, due, simStart.Add(time.Duration(s.moment)*time.Microsecond)
	r.Born = r.CreatedAt.UnixMicro() - snapshot.Epoch
	r.MessageID = fmt.Sprintf("%s-%d-%d", simSource, r.ID, r.CreatedAt.UnixMicro())
	r.JSON, r.Payload, r.Priority = true, []byte("1"), simPriorities[int(r.ID)%len(simPriorities)]
	s.nextID++
	tx.rows = append(tx.rows, r)
}

func (tx *simTx) rollbackTo(n int) {
	if len(tx.savepoints) == 0 {
		return
	}
	n %= len(tx.savepoints)
	tx.rows = tx.rows[:tx.savepoints[n]]
	tx.savepoints = tx.savepoints[:n+1]
}

// write puts the commit record into the log.
func (s *simServer) write(tx *simTx) {
	s.lsn += 10
	tx.written, tx.end = true, s.lsn
	s.wal = append(s.wal, tx)
}

// show makes a written transaction visible.
func (s *simServer) show(tx *simTx) {
	s.moment++
	for _, r := range tx.rows {
		r.visible = s.moment
		s.rows[r.ID] = r
		s.keys[r.Key] = append(s.keys[r.Key], r)
	}
	s.table = append(s.table, tx.rows...)
	s.committed = append(s.committed, tx.rows...)
	s.floor = max(s.floor, tx.xid+1)
	s.end(tx)
}

// end takes the transaction out of the snapshots.
func (s *simServer) end(tx *simTx) {
	s.running = slices.DeleteFunc(s.running, func(x *simTx) bool { return x == tx })
	s.completed = max(s.completed, tx.xid)
}

// other commits a transaction that writes no outbox row.
func (s *simServer) other() {
	tx := s.begin()
	s.lsn += 10
	s.floor = tx.xid + 1
	s.end(tx)
}

// useUpID is the engine's statement of that name. No trace of it need be in the log.
func (s *simServer) useUpID() { s.end(s.begin()) }

// crash ends what runs; ids that left no trace in the log are handed out again.
func (s *simServer) crash() {
	for len(s.running) > 0 {
		if tx := s.running[0]; tx.written {
			s.show(tx)
		} else {
			s.running = s.running[1:]
		}
	}
	s.nextXID = max(s.floor, 700)
	s.completed = s.nextXID - 1
}

// window is the statement that reads what lies past the snapshot, in order of id.
func (s *simServer) window(a snapshot.Snapshot) (found []*message.Row) {
	now := s.snapshot()
	for _, r := range s.table {
		if r.XID >= a.Xmax || slices.Contains(a.Xip, r.XID) && !slices.Contains(now.Xip, r.XID) {
			found = append(found, &r.Row)
		}
	}
	return sortRows(found)
}

// of is the statement that reads whole transactions.
func (s *simServer) of(xids []uint64) (found []*message.Row) {
	for _, r := range s.table {
		if slices.Contains(xids, r.XID) {
			found = append(found, &r.Row)
		}
	}
	return sortRows(found)
}

func sortRows(rows []*message.Row) []*message.Row {
	slices.SortFunc(rows, func(a, b *message.Row) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// recycle empties a segment, if all that it holds is settled.
func (s *simServer) recycle(segment int64, settled func(*simRow) bool) {
	in := func(r *simRow) bool { return r.ID%4 == segment }
	for _, tx := range s.running {
		if slices.ContainsFunc(tx.rows, in) {
			return
		}
	}
	if !slices.ContainsFunc(s.table, func(r *simRow) bool { return in(r) && !settled(r) }) {
		s.table = slices.DeleteFunc(s.table, func(r *simRow) bool {
			r.emptied = r.emptied || in(r)
			return r.emptied
		})
	}
}

package delivery

import (
	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/wal"
	"github.com/postrider/postrider/relay/wal/waltest"
)

// simStream is a logical replication connection: what assembles transactions of it, fed with the bytes that the server's output plugin and
// WAL sender would send for the transactions of the log from a position on.
type simStream struct {
	*wal.Assembler
	server *simServer
	at     int // number of the next commit record
}

func newSimStream(s *simServer, h *wal.Backlog) *simStream {
	x := &simStream{server: s, at: len(s.wal), Assembler: wal.NewAssembler(message.NewDecoder(simSource), h)}
	h.Connect(func() {})
	x.send(s.lsn, waltest.Relation())
	return x
}

// send passes a message to the assembler as the WAL sender frames it.
func (x *simStream) send(lsn pglogrepl.LSN, message []byte) { x.give(waltest.Frame(lsn, message)) }

func (x *simStream) give(data []byte) {
	if err := x.Take(data); err != nil {
		panic(err)
	}
}

// next sends the next committed transaction; the first so many of its rows are left out, as when the publication is missing.
func (x *simStream) next(hole int) {
	if x.at == len(x.server.wal) {
		x.keepalive()
		return
	}
	tx := x.server.wal[x.at]
	x.at++
	x.send(tx.end-1, waltest.Begin(x.server.now))
	for i, r := range tx.rows {
		if i < hole {
			r.holed, x.server.holes = true, true
			continue
		}
		x.send(tx.end-1, waltest.Insert(&r.Row))
	}
	x.send(tx.end, waltest.Commit())
}

// keepalive says how far the sender is: nothing before that is still to come.
func (x *simStream) keepalive() {
	lsn := x.server.lsn
	if x.at < len(x.server.wal) {
		lsn = x.server.wal[x.at].end - 1
	}
	x.give(waltest.Keepalive(lsn))
}

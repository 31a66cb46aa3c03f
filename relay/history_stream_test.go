package relay

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// simStream is a logical replication connection: the engine's reader, fed with the bytes that the server's output plugin and
// WAL sender would send for the transactions of the log from a position on.
type simStream struct {
	*reader
	server *simServer
	at     int // number of the next commit record
}

func newSimStream(s *simServer, h *held) *simStream {
	x := &simStream{server: s, at: len(s.wal), reader: &reader{parser: newPgoutput(message.NewDecoder(simSource)),
		stream: &stream{held: h, log: slog.New(slog.DiscardHandler)}}}
	h.connect(func() {})
	x.send(s.lsn, simRelation)
	return x
}

// send passes a message to the reader as the WAL sender frames it.
func (x *simStream) send(lsn pglogrepl.LSN, message []byte) {
	b := append(make([]byte, 0, 25+len(message)), pglogrepl.XLogDataByteID)
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = binary.BigEndian.AppendUint64(b, 0)
	if err := x.copyData(append(b, message...)); err != nil {
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
	x.send(tx.end-1, encodeBegin(x.server.now))
	for i, r := range tx.rows {
		if i < hole {
			r.holed, x.server.holes = true, true
			continue
		}
		x.send(tx.end-1, encodeInsert(&r.Row))
	}
	x.send(tx.end, []byte{msgCommit})
}

// keepalive says how far the sender is: nothing before that is still to come.
func (x *simStream) keepalive() {
	lsn := x.server.lsn
	if x.at < len(x.server.wal) {
		lsn = x.server.wal[x.at].end - 1
	}
	b := []byte{pglogrepl.PrimaryKeepaliveMessageByteID}
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = append(binary.BigEndian.AppendUint64(b, 0), 0)
	if err := x.copyData(b); err != nil {
		panic(err)
	}
}

const simRelationID = 77

// simRelation announces the outbox, with a column that the engine does not need.
var simRelation = func() []byte {
	b := binary.BigEndian.AppendUint32([]byte{msgRelation}, simRelationID)
	b = append(b, "postrider\x00outbox\x00d"...)
	names := slices.Insert(slices.Clone(message.Columns[:]), 4, "segment")
	b = binary.BigEndian.AppendUint16(b, uint16(len(names)))
	for _, name := range names {
		b = append(append(b, 0), name...)
		b = append(b, make([]byte, 9)...)
	}
	return b
}()

// encodeBegin has the position of the commit, which nobody reads, the time of the commit, and the transaction id, which nobody reads.
func encodeBegin(committed time.Time) []byte {
	b := append([]byte{msgBegin}, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint64(b, uint64(committed.UnixMicro()-snapshot.Epoch))
	return append(b, make([]byte, 4)...)
}

func encodeInsert(r *message.Row) []byte {
	b := binary.BigEndian.AppendUint32([]byte{msgInsert}, simRelationID)
	b = binary.BigEndian.AppendUint16(append(b, 'N'), uint16(len(message.Columns)+1))
	b = appendInt8(b, r.ID)
	b = appendInt8(b, int64(r.XID))
	b = appendTime(b, r.CreatedAt)
	b = appendTime(b, r.DeliverAt)
	b = appendColumn(b, []byte{0, 1}) // segment
	b = appendColumn(b, []byte(r.Topic))
	if r.Key == "" {
		b = append(b, 'n')
	} else {
		b = appendColumn(b, []byte(r.Key))
	}
	b = appendColumn(b, append([]byte{1}, r.Payload...))
	return append(b, 'n', 'n')
}

func appendColumn(b, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(b, 'b'), uint32(len(value))), value...)
}

func appendInt8(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'b', 0, 0, 0, 8), uint64(n))
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 'n')
	}
	return appendInt8(b, t.UnixMicro()-snapshot.Epoch)
}

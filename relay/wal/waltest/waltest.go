// Package waltest writes what the server sends over a replication connection, for tests and benchmarks without one: messages of the
// output plugin (protocol version 1, binary format) and the frames of the WAL sender around them.
package waltest

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// outbox is the relation's id.
const outbox = 77

// Relation announces the outbox, with a column that the relay does not need.
func Relation() []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, outbox)
	b = append(b, "postrider\x00outbox\x00d"...)
	names := slices.Insert(slices.Clone(message.Columns[:]), 4, "segment")
	b = binary.BigEndian.AppendUint16(b, uint16(len(names)))
	for _, name := range names {
		b = append(append(b, 0), name...)
		b = append(b, make([]byte, 9)...)
	}
	return b
}

// Begin has the position of the commit and the transaction id, which nobody reads, around the time of the commit.
func Begin(committed time.Time) []byte {
	b := append([]byte{'B'}, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint64(b, uint64(committed.UnixMicro()-snapshot.Epoch))
	return append(b, make([]byte, 4)...)
}

// Commit ends the transaction; of what it holds nobody reads anything.
func Commit() []byte { return []byte{'C'} }

// Insert is the insertion of a message with a JSON payload and without headers.
func Insert(r *message.Row) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'I'}, outbox)
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
	b = append(b, 'n', 'n')
	return appendColumn(b, binary.BigEndian.AppendUint16(nil, uint16(r.Priority)))
}

// Renumber writes other ids, of the row and of its transaction, into a framed Insert.
func Renumber(frame []byte, id int64, xid uint64) {
	binary.BigEndian.PutUint64(frame[25+8+5:], uint64(id))
	binary.BigEndian.PutUint64(frame[25+8+13+5:], xid)
}

// Frame wraps the plugin's message as the WAL sender does that stands at the position.
func Frame(lsn pglogrepl.LSN, message []byte) []byte {
	b := append(make([]byte, 0, 25+len(message)), pglogrepl.XLogDataByteID)
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = binary.BigEndian.AppendUint64(b, 0)
	return append(b, message...)
}

// Keepalive says how far the sender is.
func Keepalive(lsn pglogrepl.LSN) []byte {
	b := binary.BigEndian.AppendUint64([]byte{pglogrepl.PrimaryKeepaliveMessageByteID}, uint64(lsn))
	return append(binary.BigEndian.AppendUint64(b, 0), 0)
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

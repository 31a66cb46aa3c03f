package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/message"
)

// pgoutput decodes what the output plugin of logical replication sends, protocol version 1 in binary format, as far as an
// outbox needs it: begin, commit, and insertions. See "Logical Replication Message Formats" in PostgreSQL's documentation.
type pgoutput struct {
	rows      *message.Decoder
	relations map[uint32]*relation
	committed time.Time // when the transaction under way was, by the server's clock
}

// relation maps a relation's columns to the decoder's; -1 for one that is not needed. Other tables than the outbox, which somebody
// may have added to the publication, have none.
type relation struct{ columns []int }

func newPgoutput(d *message.Decoder) *pgoutput {
	return &pgoutput{rows: d, relations: make(map[uint32]*relation)}
}

// The kinds of message that matter.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgRelation = 'R'
	msgInsert   = 'I'
)

// parse decodes one message. The row is nil unless the message is an insertion and keep is set.
func (p *pgoutput) parse(data []byte, keep bool) (kind byte, r *message.Row, err error) {
	if len(data) == 0 {
		return 0, nil, fmt.Errorf("stream: empty message")
	}
	b := wire{data: data[1:]}
	switch data[0] {
	case msgBegin:
		b.skip(8) // position of the commit
		if stamp := b.take(8); !b.short {
			p.committed, err = message.DecodeTime(stamp)
		}
	case msgRelation:
		err = p.relation(&b)
	case msgInsert:
		if keep {
			r, err = p.insert(&b)
		}
	}
	if err == nil && b.short {
		err = fmt.Errorf("message ends early")
	}
	if err != nil {
		return data[0], nil, fmt.Errorf("stream: message %q: %w", data[0], err)
	}
	return data[0], r, nil
}

func (p *pgoutput) relation(b *wire) error {
	id := b.uint32()
	schema, table := b.cstring(), b.cstring()
	if b.short {
		return nil
	}
	if schema != "postrider" || table != "outbox" {
		p.relations[id] = &relation{}
		return nil
	}
	b.skip(1) // replica identity
	n := int(b.uint16())
	rel := &relation{columns: make([]int, 0, min(n, 64))}
	found := 0
	for range n {
		b.skip(1) // flags
		column := slices.Index(message.Columns[:], b.cstring())
		b.skip(8) // type and modifier
		if b.short {
			return nil
		}
		if column >= 0 {
			found++
		}
		rel.columns = append(rel.columns, column)
	}
	if found != len(message.Columns) {
		return fmt.Errorf("the published table has %d of the outbox's %d columns", found, len(message.Columns))
	}
	p.relations[id] = rel
	return nil
}

func (p *pgoutput) insert(b *wire) (*message.Row, error) {
	id := b.uint32()
	rel := p.relations[id]
	if rel == nil {
		return nil, fmt.Errorf("relation %d was not announced", id)
	}
	if rel.columns == nil {
		return nil, nil // another table's
	}
	b.skip(1) // 'N'
	if n := int(b.uint16()); n != len(rel.columns) {
		return nil, fmt.Errorf("tuple has %d columns, its relation %d", n, len(rel.columns))
	}
	var values [len(message.Columns)][]byte
	for _, column := range rel.columns {
		value, err := b.column()
		if err != nil {
			return nil, err
		}
		if column >= 0 {
			values[column] = value
		}
	}
	if b.short {
		return nil, nil
	}
	return p.rows.Decode(&values)
}

// wire reads big-endian values off a message and remembers if it was too short.
type wire struct {
	data  []byte
	short bool
}

func (w *wire) take(n int) []byte {
	if n < 0 || n > len(w.data) {
		w.short, w.data = true, nil
		return nil
	}
	b := w.data[:n:n]
	w.data = w.data[n:]
	return b
}

func (w *wire) skip(n int) { w.take(n) }

func (w *wire) uint16() uint16 {
	if b := w.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (w *wire) uint32() uint32 {
	if b := w.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) cstring() string {
	end := bytes.IndexByte(w.data, 0)
	if end < 0 {
		w.short, w.data = true, nil
		return ""
	}
	s := string(w.data[:end])
	w.data = w.data[end+1:]
	return s
}

// column reads one value of a tuple; nil for NULL.
func (w *wire) column() ([]byte, error) {
	kind := w.take(1)
	if kind == nil {
		return nil, nil
	}
	switch kind[0] {
	case 'n':
		return nil, nil
	case 'b':
		value := w.take(int(int32(w.uint32())))
		if value == nil {
			return nil, nil
		}
		return value, nil
	}
	return nil, fmt.Errorf("column of kind %q, but only NULL and binary are expected", kind[0])
}

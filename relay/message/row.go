package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unsafe"

	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/sinks"
)

// Row is a message of the outbox with what the engine needs to know about it.
type Row struct {
	sinks.Message
	XID       uint64
	Born      int64           // created_at as PostgreSQL has it
	DeliverAt time.Time       // zero: at once
	Memo      expression.Memo // what expressions have found out about it
	Withheld  bool            // payload and headers are still to be read: see withheld.go
	Bytes     int64           // then, how many there are, if that is known
}

// Size is the number of bytes that the row counts for in the bounds on memory.
func (r *Row) Size() int64 {
	return int64(len(r.Payload)+len(r.Headers)+len(r.Key)+len(r.Topic)) + 256
}

func (r *Row) Ident() snapshot.Ident { return snapshot.Ident{ID: r.ID, Born: r.Born} }

func (r *Row) Place() snapshot.Place { return snapshot.Place{Ident: r.Ident(), XID: r.XID} }

// Arrived is the number of bytes that reading it took.
func (r *Row) Arrived() int64 { return r.Size() + r.Bytes }

// Columns of the outbox in the order in which every query and the decoder have them.
var Columns = [...]string{"id", "xid", "created_at", "deliver_at", "topic", "key", "payload", "body", "headers", "priority"}

const ColumnList = "id, xid, created_at, deliver_at, topic, key, payload, body, headers, priority"

const (
	colID = iota
	colXID
	colCreatedAt
	colDeliverAt
	colTopic
	colKey
	colPayload
	colBody
	colHeaders
	colPriority
)

// classes is how many priorities there are.
const classes = 4

const (
	InlineBytes = 64 << 10 // a row with more is withheld
	MaxKey      = 8 << 10  // bytes of a key; what has a longer one is never delivered
)

// MaxOverflow bounds what of a query is read in vain, be it many rows or a single one.
const MaxOverflow = 16 << 20

// Decoder turns rows in PostgreSQL's binary format, from queries and from the stream alike, into messages.
type Decoder struct {
	source string            // source id of the database, the first part of every message id
	topics map[string]string // one string per topic
	rows   []Row             // allocated, not used yet
}

// rowsAtOnce are allocated together, and live as long as the last of them.
const rowsAtOnce = 8

func (d *Decoder) newRow() *Row {
	if len(d.rows) == 0 {
		d.rows = make([]Row, rowsAtOnce)
	}
	r := &d.rows[0]
	d.rows = d.rows[1:]
	return r
}

// MaxTopics bounds the decoder's memory.
const MaxTopics = 10_000

func NewDecoder(source string) *Decoder {
	return &Decoder{source: source, topics: make(map[string]string)}
}

// Decode decodes a row of the stream. It copies what it keeps: values may be reused by the caller.
func (d *Decoder) Decode(values *[len(Columns)][]byte) (*Row, error) {
	payload, err := decodeJSON(values[colPayload])
	if err != nil {
		return nil, fmt.Errorf("decode the outbox's payload: %w", err)
	}
	return d.decodeText(values, payload)
}

// DecodeRead decodes a row of a query, which has its payload as text.
func (d *Decoder) DecodeRead(values *[len(Columns)][]byte) (*Row, error) {
	return d.decodeText(values, values[colPayload])
}

func (d *Decoder) decodeText(values *[len(Columns)][]byte, payload []byte) (*Row, error) {
	id, err1 := DecodeInt(values[colID])
	xid, err2 := DecodeInt(values[colXID])
	created, err3 := DecodeTime(values[colCreatedAt])
	due, err4 := DecodeTime(values[colDeliverAt])
	headers, err5 := decodeJSON(values[colHeaders])
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fmt.Errorf("decode outbox row %d: %w", id, err)
	}
	born, err := DecodeInt(values[colCreatedAt])
	if err != nil {
		return nil, fmt.Errorf("decode outbox row %d: created_at: %w", id, err)
	}
	r := d.newRow()
	r.ID, r.XID, r.Born, r.CreatedAt, r.DeliverAt = id, uint64(xid), born, created, due
	r.Topic, r.Priority = d.intern(values[colTopic]), decodePriority(values[colPriority])
	r.JSON = payload != nil
	if !r.JSON {
		payload = values[colBody]
	}
	key := values[colKey]
	if size := len(key) + len(payload) + len(headers); payload == nil || size > InlineBytes || len(key) > MaxKey {
		r.Withheld, r.JSON, r.Bytes = true, false, int64(size)
		payload, headers = nil, nil
		if len(key) > MaxKey {
			key = nil
		}
	}
	d.keep(r, key, payload, headers)
	return r, nil
}

// keep makes the message's id and copies key, payload and headers, all with one allocation: whoever keeps one of the strings for
// longer than the message copies it.
func (d *Decoder) keep(r *Row, key, payload, headers []byte) {
	all := make([]byte, 0, len(d.source)+maxIDTail+len(key)+len(payload)+len(headers))
	all = appendMessageID(all, d.source, r.ID, r.CreatedAt)
	id := len(all)
	all = append(append(append(all, key...), payload...), headers...)
	r.MessageID = stringOf(all[:id])
	r.Key = stringOf(all[id : id+len(key)])
	body := all[id+len(key):]
	r.Payload = body[:len(payload):len(payload)]
	if len(headers) > 0 {
		r.Headers = body[len(payload):]
	}
}

// stringOf is the string of bytes that nobody writes any more.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (d *Decoder) intern(topic []byte) string {
	if s, ok := d.topics[string(topic)]; ok {
		return s
	}
	if len(d.topics) >= MaxTopics {
		clear(d.topics)
	}
	s := string(topic)
	d.topics[s] = s
	return s
}

// maxIDTail is the most that a message id has after the source: two numbers, each with a hyphen before it.
const maxIDTail = 2 * (1 + 20)

// appendMessageID writes an id that is unique even where a crash lets row ids be used again.
func appendMessageID(b []byte, source string, id int64, created time.Time) []byte {
	b = append(b, source...)
	b = append(b, '-')
	b = strconv.AppendInt(b, id, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, created.UnixMicro(), 10)
}

var ErrFormat = errors.New("a value is not in the binary format of its type")

func DecodeInt(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, ErrFormat
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// decodePriority takes what is no priority for the nearest one: whoever may insert a row may have given it any.
func decodePriority(b []byte) int16 {
	if len(b) != 2 {
		return sinks.DefaultPriority
	}
	return min(max(int16(binary.BigEndian.Uint16(b)), 1), classes)
}

func DecodeTime(b []byte) (time.Time, error) {
	if b == nil {
		return time.Time{}, nil
	}
	micros, err := DecodeInt(b)
	switch micros {
	case math.MaxInt64: // infinity
		return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), err
	case math.MinInt64: // -infinity
		return time.Time{}, err
	}
	micros = min(micros, math.MaxInt64-snapshot.Epoch) // PostgreSQL's calendar ends a little later than Unix microseconds
	return time.UnixMicro(micros + snapshot.Epoch).UTC(), err
}

// decodeJSON strips the version byte of jsonb (jsonb_send in src/backend/utils/adt/jsonb.c).
func decodeJSON(b []byte) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	if len(b) < 2 || b[0] != 1 {
		return nil, ErrFormat
	}
	return b[1:], nil
}

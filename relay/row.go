package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unsafe"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/sinks"
)

// row is a message of the outbox with what the engine needs to know about it.
type row struct {
	sinks.Message
	xid       uint64
	born      int64     // created_at as PostgreSQL has it
	deliverAt time.Time // zero: at once
	withheld  bool      // payload and headers are still to be read: see withheld.go
	bytes     int64     // then, how many there are, if that is known
}

// size is the number of bytes that the row counts for in the bounds on memory.
func (r *row) size() int64 {
	return int64(len(r.Payload)+len(r.Headers)+len(r.Key)+len(r.Topic)) + 256
}

func (r *row) ident() snapshot.Ident { return snapshot.Ident{ID: r.ID, Born: r.born} }

func (r *row) place() snapshot.Place { return snapshot.Place{Ident: r.ident(), XID: r.xid} }

// arrived is the number of bytes that reading it took.
func (r *row) arrived() int64 { return r.size() + r.bytes }

// columns of the outbox in the order in which every query and the decoder have them.
var columns = [...]string{"id", "xid", "created_at", "deliver_at", "topic", "key", "payload", "body", "headers"}

const columnList = "id, xid, created_at, deliver_at, topic, key, payload, body, headers"

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
)

const (
	inlineBytes = 64 << 10 // a row with more is withheld
	maxKey      = 8 << 10  // bytes of a key; what has a longer one is never delivered
)

// decoder turns rows in PostgreSQL's binary format, from queries and from the stream alike, into messages.
type decoder struct {
	source string            // source id of the database, the first part of every message id
	topics map[string]string // one string per topic
	rows   []row             // allocated, not used yet
}

// rowsAtOnce are allocated together, and live as long as the last of them.
const rowsAtOnce = 8

func (d *decoder) newRow() *row {
	if len(d.rows) == 0 {
		d.rows = make([]row, rowsAtOnce)
	}
	r := &d.rows[0]
	d.rows = d.rows[1:]
	return r
}

// maxTopics bounds the decoder's memory.
const maxTopics = 10_000

func newDecoder(source string) *decoder {
	return &decoder{source: source, topics: make(map[string]string)}
}

// decode decodes a row of the stream. It copies what it keeps: values may be reused by the caller.
func (d *decoder) decode(values *[len(columns)][]byte) (*row, error) {
	payload, err := decodeJSON(values[colPayload])
	if err != nil {
		return nil, fmt.Errorf("decode the outbox's payload: %w", err)
	}
	return d.decodeText(values, payload)
}

// decodeRead decodes a row of a query, which has its payload as text.
func (d *decoder) decodeRead(values *[len(columns)][]byte) (*row, error) {
	return d.decodeText(values, values[colPayload])
}

func (d *decoder) decodeText(values *[len(columns)][]byte, payload []byte) (*row, error) {
	id, err1 := decodeInt(values[colID])
	xid, err2 := decodeInt(values[colXID])
	created, err3 := decodeTime(values[colCreatedAt])
	due, err4 := decodeTime(values[colDeliverAt])
	headers, err5 := decodeJSON(values[colHeaders])
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fmt.Errorf("decode outbox row %d: %w", id, err)
	}
	born, err := decodeInt(values[colCreatedAt])
	if err != nil {
		return nil, fmt.Errorf("decode outbox row %d: created_at: %w", id, err)
	}
	r := d.newRow()
	r.ID, r.xid, r.born, r.CreatedAt, r.deliverAt = id, uint64(xid), born, created, due
	r.Topic = d.intern(values[colTopic])
	r.JSON = payload != nil
	if !r.JSON {
		payload = values[colBody]
	}
	key := values[colKey]
	if size := len(key) + len(payload) + len(headers); payload == nil || size > inlineBytes || len(key) > maxKey {
		r.withheld, r.JSON, r.bytes = true, false, int64(size)
		payload, headers = nil, nil
		if len(key) > maxKey {
			key = nil
		}
	}
	d.keep(r, key, payload, headers)
	return r, nil
}

// keep makes the message's id and copies key, payload and headers, all with one allocation: whoever keeps one of the strings for
// longer than the message copies it.
func (d *decoder) keep(r *row, key, payload, headers []byte) {
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

func (d *decoder) intern(topic []byte) string {
	if s, ok := d.topics[string(topic)]; ok {
		return s
	}
	if len(d.topics) >= maxTopics {
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

var errFormat = errors.New("a value is not in the binary format of its type")

func decodeInt(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, errFormat
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

func decodeTime(b []byte) (time.Time, error) {
	if b == nil {
		return time.Time{}, nil
	}
	micros, err := decodeInt(b)
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
		return nil, errFormat
	}
	return b[1:], nil
}

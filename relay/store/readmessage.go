package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// UnreadError says why a message could not be read.
type UnreadError struct {
	Reason string
	Passes bool // reading it again may help
}

// Error returns the reason.
func (u *UnreadError) Error() string { return u.Reason }

var messageStatement = statement{name: "postrider_message",
	sql: `SELECT kind, size, part FROM postrider.read_message($1::text, $2::text::bigint, $3::text::timestamptz, $4::text::integer, $5::text::bigint, $6::text::bigint)`}

// Wanted names a message that is to be read by itself, for a cursor.
type Wanted struct {
	Part   subscription.Part
	Epoch  int64
	Row    *message.Row
	Parked bool  // the copy, not the outbox's row
	Most   int64 // bytes that there is room for
	Bound  int64 // bytes above which no message is read
}

// ReadMessage reads what a row has withheld. It fails with a largerError if that is more than there is room for.
func (d *Database) ReadMessage(ctx context.Context, w Wanted) (*message.Row, error) {
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	m := messageParts{most: w.Most, largest: w.Bound}
	m.Message, m.XID, m.Born, m.DeliverAt, m.Withheld, m.Bytes = w.Row.Message, w.Row.XID, w.Row.Born, w.Row.DeliverAt, w.Row.Withheld, w.Row.Bytes
	m.Payload, m.Headers = nil, nil
	number := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	args := [][]byte{nil, number(w.Row.ID), []byte(snapshot.TimeText(w.Row.Born)), number(message.MaxKey), number(w.Bound), number(w.Most)}
	if w.Parked {
		args[0] = []byte(w.Part.Subscription)
	}
	err = NewSession(conn.Conn()).run(ctx, begin, byIndex, call{statement: messageStatement, args: args, binary: true, row: m.add},
		mineCall(Owned{w.Part, d.Incarnation, w.Epoch}), commit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRead, err)
	}
	return m.whole()
}

// messageParts puts a message together.
type messageParts struct {
	message.Row
	most    int64
	largest int64
	found   bool
	err     error
}

func (m *messageParts) add(values [][]byte) error {
	m.found = true
	var size int64
	if len(values[1]) == 8 {
		size = int64(binary.BigEndian.Uint64(values[1]))
	}
	switch part := values[2]; string(values[0]) {
	case "key":
		m.err = &UnreadError{Reason: fmt.Sprintf("the key has %d bytes: it may have %d at most", size, message.MaxKey)}
	case "size":
		m.err = &UnreadError{Reason: tooLarge(size, m.largest)}
	case "problem", "trouble":
		m.err = &UnreadError{Reason: "the message cannot be read: " + string(part), Passes: string(values[0]) == "trouble"}
	case "message":
		if size > m.most {
			m.err = &LargerError{size}
		}
	case "headers":
		m.Headers = append(m.Headers, part...)
	case "payload", "body":
		if m.Payload == nil {
			m.Payload = make([]byte, 0, size)
			m.JSON = string(values[0]) == "payload"
		}
		m.Payload = append(m.Payload, part...)
	}
	return nil
}

func (m *messageParts) whole() (*message.Row, error) {
	switch {
	case m.err != nil:
		return nil, m.err
	case !m.found:
		return nil, &UnreadError{Reason: "the message is not in the outbox any more, and there is no copy of it"}
	}
	m.Withheld = false
	return &m.Row, nil
}

// tooLarge says of a message of so many bytes why it is not read.
func tooLarge(size, most int64) string {
	text := "the message has " + decimalBytes(size)
	if size > 1<<30 {
		return text + " as text: more than PostgreSQL can hand out (1 GiB)"
	}
	return text + ": more than this relay reads (" + decimalBytes(most) + "; a larger POSTRIDER_MEMORY_LIMIT makes it more)"
}

func decimalBytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}

// LargerError says that a message has more bytes than there is room for yet.
type LargerError struct{ Bytes int64 }

// Error says how many.
func (l *LargerError) Error() string { return "the message has " + decimalBytes(l.Bytes) }

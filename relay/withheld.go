package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// Rows are read many at a time, for whoever wants them, so what is wrong with one would be wrong with all. A row comes with its
// payload and headers only if these are known to be small; else they are withheld until its turn to be delivered comes, and are
// read by themselves then: a message that is too large, damaged or not text of the database's encoding fails for itself.

const (
	// What has more than this, and more than four times the bound on memory, is never delivered.
	largestMessage = 256 << 20
)

// A stored value is taken for small as it is if it is not compressed: its text may be longer, but not by more than a few megabytes.
// One that is stored in another way is small if it is so unpacked and as text. What is not small is not unpacked at all, so that
// damage to it does not show. (The size of a document's text is known only from the text: twelve stored bytes are a number of
// 131,072 digits.)
var (
	headersAreSmall = `(headers IS NULL OR pg_column_size(headers) <= 2000 AND pg_column_compression(headers) IS NULL)`
	keyIsShort      = `(key IS NULL OR octet_length(key) <= ` + strconv.Itoa(message.MaxKey) + `)`
	readColumns     = columnsWith(`WHEN payload IS NOT NULL THEN (
		SELECT CASE WHEN octet_length(t) <= `+strconv.Itoa(message.InlineBytes)+` THEN t END FROM (SELECT
			CASE WHEN pg_column_size(payload OPERATOR(pg_catalog.#>) '{}'::text[]) <= 16384 THEN payload::text END AS t OFFSET 0) q)`, message.InlineBytes)
	smallColumns = columnsWith("", 2000)
	// Of the heads nothing fails but what the database cannot do without.
	headColumns = `id, xid, created_at, deliver_at, topic, postrider.readable_key(key, ` + strconv.Itoa(message.MaxKey) + `), NULL::text, NULL::bytea, NULL::jsonb `
)

func columnsWith(packed string, body int) string {
	return `id, xid, created_at, deliver_at, topic, CASE WHEN ` + keyIsShort + ` THEN key END,
		CASE WHEN NOT ` + headersAreSmall + ` OR NOT ` + keyIsShort + ` THEN NULL
			WHEN pg_column_size(payload) <= 2000 AND pg_column_compression(payload) IS NULL THEN payload::text ` + packed + ` END,
		CASE WHEN octet_length(body) <= ` + strconv.Itoa(body) + ` AND ` + headersAreSmall + ` AND ` + keyIsShort + ` THEN body END,
		CASE WHEN ` + headersAreSmall + ` THEN headers END `
}

// reading is a query of rows in two ways.
type reading struct {
	whole statement // with what they carry, as far as that is small
	heads statement // without
}

func newReading(name, columns, from string) reading {
	return reading{statement{name, `SELECT ` + columns + from}, statement{name + "_heads", `SELECT ` + headColumns + from}}
}

func (r reading) way(heads bool) statement {
	if heads {
		return r.heads
	}
	return r.whole
}

var (
	// errUnreadable says that rows cannot be read together.
	errUnreadable = errors.New("rows cannot be read together")
	// errRead says that a message could not be read although there was a connection.
	errRead = errors.New("read a message")
	// errOverflow ends a query whose rows are much larger than was known.
	errOverflow = fmt.Errorf("%w: they are larger than memory has room for", errUnreadable)
)

// overflow counts what is not kept.
type overflow struct{ most int64 }

func (o *overflow) add(values [][]byte) error {
	for _, v := range values {
		o.most -= int64(len(v))
	}
	if o.most < 0 {
		return errOverflow
	}
	return nil
}

// unreadable says whether a query may have failed because of a row's contents.
func unreadable(err error) bool {
	if errors.Is(err, errOverflow) {
		return true
	}
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "53200" || pgErr.Code == "58030" || // out_of_memory, io_error
		slices.Contains([]string{"22", "54", "XX"}, pgErr.Code[:min(2, len(pgErr.Code))])) // data, program limits, corruption
}

// unreadError says why a message could not be read.
type unreadError struct {
	reason string
	passes bool // reading it again may help
}

// Error returns the reason.
func (u *unreadError) Error() string { return u.reason }

// notRead draws the consequences for the message alone: its destination has not been asked.
func (r *runner) notRead(t *task, u *unreadError, now time.Time) {
	r.intake.dirty = true
	t.attempts++
	if t.entry != nil {
		t.entry.busy = false
	}
	if u.passes {
		r.retry(t, u.reason, 0, now)
		return
	}
	t.bare = true
	r.bury(t, u.reason)
}

// deliverWithheld reads the lane's only message and delivers it.
func (r *runner) deliverWithheld(l *lane) {
	t := l.batch[0]
	b, err := r.readWithheld(t, l.doubted)
	if err != nil {
		l.outcomes[0] = err
		return
	}
	l.deliveries[0].Message = &b.row.Message
	r.env.sink.Deliver(r.life.deliver, l.deliveries, l.outcomes)
	l.deliveries[0].Message = &t.row.Message
	r.env.passes.shelf.put(b)
}

// readWithheld retries until there is an answer or deliveries are given up.
func (r *runner) readWithheld(t *task, doubted bool) (*book, error) {
	mark := shelfMark{id: t.row.ID, created: t.row.CreatedAt.UnixMicro()}
	if t.entry != nil {
		mark.parked = r.env.sub.Name
	}
	size := t.row.Bytes
	if size == 0 {
		size = guess
	}
	retry := async.ReconnectBackoff()
	for {
		b, err := r.env.passes.shelf.take(r.life.deliver, mark, claim{tenant: &r.lanes.tenant, doubted: doubted}, size, func(most int64) (*message.Row, error) {
			whole, err := r.env.passes.readMessage(r.life.deliver, r.env.sub.Name, r.env.cursor.epoch, t, most)
			return whole, r.env.passes.losses.judge(mark, err)
		})
		switch _, final := errors.AsType[*unreadError](err); {
		case err == nil || final:
			r.env.health.works(cannotReadMessage, r.env.sub.Name)
			return b, err
		case r.life.deliver.Err() != nil:
			return nil, r.life.deliver.Err()
		}
		r.env.health.failed(cannotReadMessage, fmt.Errorf("message %d: %w", t.row.ID, err), r.env.sub.Name)
		if !async.Sleep(r.life.deliver, retry.NextBackOff()) {
			return nil, r.life.deliver.Err()
		}
	}
}

// losses counts connections that were lost while a message was read: the server may not survive that. It outlives generations.
type losses struct {
	mu sync.Mutex
	of map[shelfMark]int
}

// mostLosses in a row, and the message waits for its next attempt instead of being read over and over.
const mostLosses = 3

// judge makes what has gone wrong too often, or took too long, a matter of the message.
func (l *losses) judge(mark shelfMark, err error) error {
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.of, mark)
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case answered && (pgErr.Code == "57014" || pgErr.Code == "25P04"): // query_canceled, transaction_timeout
		return &unreadError{reason: "reading the message was cut off: " + pgErr.Message, passes: true}
	case answered && pgErr.Severity != "FATAL" || errors.Is(err, errLost) || !errors.Is(err, errRead):
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil || len(l.of) >= message.MaxTopics {
		l.of = make(map[shelfMark]int)
	}
	if l.of[mark]++; l.of[mark] < mostLosses {
		return err
	}
	delete(l.of, mark)
	return &unreadError{reason: fmt.Sprintf("the connection broke %d times while the message was read: %s", mostLosses, err), passes: true}
}

var messageStatement = statement{"postrider_message",
	`SELECT kind, size, part FROM postrider.read_message($1::text, $2::text::bigint, $3::text::timestamptz, $4::text::integer, $5::text::bigint, $6::text::bigint)`}

// readMessage reads what a row has withheld. It fails with a largerError if that is more than most bytes.
func (p *passes) readMessage(ctx context.Context, name string, epoch int64, t *task, most int64) (*message.Row, error) {
	if err := p.single.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.single.Release(1)
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	m := messageParts{Row: *t.row, most: most, largest: p.largest}
	m.Payload, m.Headers = nil, nil
	number := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	args := [][]byte{nil, number(t.row.ID), []byte(snapshot.TimeText(t.row.Born)), number(message.MaxKey), number(p.largest), number(most)}
	if t.entry != nil {
		args[0] = []byte(name)
	}
	err = newSession(conn.Conn()).run(ctx, begin, byIndex, call{statement: messageStatement, args: args, binary: true, row: m.add},
		mineCall(p.incarnation, name, epoch), commit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRead, err)
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
		m.err = &unreadError{reason: fmt.Sprintf("the key has %d bytes: it may have %d at most", size, message.MaxKey)}
	case "size":
		m.err = &unreadError{reason: tooLarge(size, m.largest)}
	case "problem", "trouble":
		m.err = &unreadError{reason: "the message cannot be read: " + string(part), passes: string(values[0]) == "trouble"}
	case "message":
		if size > m.most {
			m.err = &largerError{size}
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
		return nil, &unreadError{reason: "the message is not in the outbox any more, and there is no copy of it"}
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

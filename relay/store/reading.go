package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/message"
)

// Rows are read many at a time, for whoever wants them, so what is wrong with one would be wrong with all. A row comes with its
// payload and headers only if these are known to be small; else they are withheld until its turn to be delivered comes, and are
// read by themselves then: a message that is too large, damaged or not text of the database's encoding fails for itself.

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
	headColumns = `id, xid, created_at, deliver_at, topic, postrider.readable_key(key, ` + strconv.Itoa(message.MaxKey) + `), NULL::text, NULL::bytea, NULL::jsonb, priority `
)

func columnsWith(packed string, body int) string {
	return `id, xid, created_at, deliver_at, topic, CASE WHEN ` + keyIsShort + ` THEN key END,
		CASE WHEN NOT ` + headersAreSmall + ` OR NOT ` + keyIsShort + ` THEN NULL
			WHEN pg_column_size(payload) <= 2000 AND pg_column_compression(payload) IS NULL THEN payload::text ` + packed + ` END,
		CASE WHEN octet_length(body) <= ` + strconv.Itoa(body) + ` AND ` + headersAreSmall + ` AND ` + keyIsShort + ` THEN body END,
		CASE WHEN ` + headersAreSmall + ` THEN headers END, priority `
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
	// ErrUnreadable says that rows cannot be read together.
	ErrUnreadable = errors.New("rows cannot be read together")
	// ErrRead says that a message could not be read although there was a connection.
	ErrRead = errors.New("read a message")
	// ErrOverflow ends a query whose rows are much larger than was known.
	ErrOverflow = fmt.Errorf("%w: they are larger than memory has room for", ErrUnreadable)
)

// overflow counts what is not kept.
type overflow struct{ most int64 }

func (o *overflow) add(values [][]byte) error {
	for _, v := range values {
		o.most -= int64(len(v))
	}
	if o.most < 0 {
		return ErrOverflow
	}
	return nil
}

// Unreadable says whether a query may have failed because of a row's contents.
func Unreadable(err error) bool {
	if errors.Is(err, ErrOverflow) {
		return true
	}
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "53200" || pgErr.Code == "58030" || // out_of_memory, io_error
		slices.Contains([]string{"22", "54", "XX"}, pgErr.Code[:min(2, len(pgErr.Code))])) // data, program limits, corruption
}

// IsCutOff says whether a server has begun to carry something out, or may have, and has not ended it: less may work.
func IsCutOff(err error) bool { return !errors.Is(err, ErrLost) && !dberr.Connecting(err) }

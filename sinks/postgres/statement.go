package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// toOutbox says whether messages become messages of that database's own outbox.
func (s *sink) toOutbox() bool { return !s.call && s.name == name{"postrider", "outbox"} }

// sql is the statement that accepts, of the messages that it is given, those that are new, and makes their effects. Operators are named
// with their schema: the role's search_path is for what its triggers and functions do, and is left as it is.
func (s *sink) sql() string {
	const given = `WITH fresh AS MATERIALIZED (
	SELECT a.mark FROM postrider_inbox.accept_at($1::pg_catalog.text[], $2::pg_catalog.int8[]) AS a (mark)
), new AS (
	SELECT g.* FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.text[]),
		pg_catalog.unnest($6::pg_catalog.text[]), pg_catalog.unnest($7::pg_catalog.bytea[]), pg_catalog.unnest($8::pg_catalog.text[]),
		pg_catalog.unnest($9::pg_catalog.bool[]), pg_catalog.unnest($10::pg_catalog.timestamptz[]), pg_catalog.unnest($11::pg_catalog.int2[]))
		WITH ORDINALITY AS g (mark, message, topic, key, payload, body, headers, is_json, created, priority, n)
	JOIN fresh ON g.mark OPERATOR(pg_catalog.=) fresh.mark ORDER BY g.n
)
`
	target := pgx.Identifier{s.name.schema, s.name.local}.Sanitize()
	const values = `CASE WHEN new.key OPERATOR(pg_catalog.<>) '' THEN new.key END, CASE WHEN new.is_json THEN new.payload::pg_catalog.%s END, CASE WHEN NOT new.is_json THEN new.body END, CASE WHEN new.headers OPERATOR(pg_catalog.<>) '' THEN new.headers::pg_catalog.%s END`
	typed := func(format string) string { return fmt.Sprintf(values, format, format) }
	switch {
	case s.call:
		return given + "SELECT " + target + "(new.message, new.topic, " + typed("jsonb") + ", new.created) FROM new"
	case s.toOutbox():
		return given + "INSERT INTO " + target + " (topic, key, payload, body, headers, priority) SELECT new.topic, " + typed("jsonb") + ", new.priority FROM new"
	}
	return given + "INSERT INTO " + target + " (message_id, topic, key, payload, body, headers, created_at) SELECT new.message, new.topic, " + typed("json") + ", new.created FROM new"
}

// epoch is that of PostgreSQL, the year 2000, in microseconds since 1970.
const epoch = 946_684_800_000_000

// formats are those of the statement's arguments: all binary.
var formats = []int16{pgx.BinaryFormatCode}

// args are the statement's arguments. What no message has is an empty array.
func (s *sink) args(list []row) [][]byte {
	n, payloads := len(list), 0
	for _, r := range list {
		payloads += len(r.Payload)
	}
	marks := newArray(pgtype.TextOID, n, (48+len(s.inbox)+1)*n)
	ids, topics, keys, headers := newArray(pgtype.TextOID, n, 48*n), newArray(pgtype.TextOID, n, 32*n), newArray(pgtype.TextOID, n, 16*n), newArray(pgtype.TextOID, n, 16*n)
	json, bodies, isJSON := newArray(pgtype.TextOID, n, payloads), newArray(pgtype.ByteaOID, n, 0), newArray(pgtype.BoolOID, n, n)
	created, priorities, made := newArray(pgtype.TimestamptzOID, n, 8*n), newArray(pgtype.Int2OID, n, 2*n), newArray(pgtype.Int8OID, n, 8*n)
	for _, r := range list {
		marks.text(s.inbox+"/"+r.MessageID, true)
		ids.text(r.MessageID, true)
		topics.text(r.Topic, true)
		keys.text(r.Key, r.Key != "")
		headers.text(r.headers, r.headers != "")
		payload, body := r.Payload, []byte(nil)
		if !r.JSON {
			payload, body = nil, r.Payload
		}
		json.bytes(payload, r.JSON)
		bodies.bytes(body, !r.JSON)
		isJSON.number(1, bit(r.JSON))
		created.number(8, uint64(r.CreatedAt.UnixMicro()-epoch))
		priorities.number(2, uint64(r.Priority))
		made.number(8, uint64(r.made))
	}
	return [][]byte{marks.wire(), made.wire(), ids.wire(), topics.wire(), keys.wire(), json.wire(), bodies.wire(), headers.wire(), isJSON.wire(), created.wire(), priorities.wire()}
}

func marshalHeaders(headers map[string]string) (string, error) {
	text, err := json.Marshal(headers)
	return string(text), err
}

func bit(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// toOutbox says whether messages become messages of that database's own outbox.
func (s *sink) toOutbox() bool { return !s.call && s.name == name{"postrider", "outbox"} }

// sql is the statement that accepts, of the messages that it is given, those that are new, and makes their effects. Operators are named
// with their schema: the role's search_path is for what its triggers and functions do, and is left as it is.
func (s *sink) sql() string {
	const given = `WITH given AS MATERIALIZED (
	SELECT $1::pg_catalog.text OPERATOR(pg_catalog.||) g.message AS mark, g.*
	FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[]),
		pg_catalog.unnest($5::pg_catalog.text[]), pg_catalog.unnest($6::pg_catalog.bytea[]), pg_catalog.unnest($7::pg_catalog.text[]),
		pg_catalog.unnest($8::pg_catalog.bool[]), pg_catalog.unnest($9::pg_catalog.timestamptz[]), pg_catalog.unnest($10::pg_catalog.int2[]))
		WITH ORDINALITY AS g (message, topic, key, payload, body, headers, is_json, created, priority, n)
), fresh AS MATERIALIZED (
	SELECT a.mark FROM postrider_inbox.accept_at(ARRAY(SELECT given.mark FROM given ORDER BY given.n), $11::pg_catalog.int8[]) AS a (mark)
), new AS (
	SELECT given.* FROM given JOIN fresh ON given.mark OPERATOR(pg_catalog.=) fresh.mark ORDER BY given.n
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

// args are the statement's arguments.
func (s *sink) args(list []row) []any {
	n := len(list)
	c := columns{ids: make([]string, n), topics: make([]string, n), keys: make([]string, n), payloads: make([]string, n), headers: make([]string, n),
		bodies: make([][]byte, n), json: make([]bool, n), created: make([]time.Time, n), priorities: make([]int16, n), made: make([]int64, n)}
	for i, r := range list {
		c.ids[i], c.topics[i], c.keys[i], c.headers[i] = r.MessageID, r.Topic, r.Key, r.headers
		c.json[i], c.created[i], c.priorities[i], c.made[i] = r.JSON, r.CreatedAt, r.Priority, r.made
		if r.JSON {
			c.payloads[i], c.bodies[i] = string(r.Payload), []byte{}
		} else {
			c.bodies[i] = r.Payload
			if r.Payload == nil {
				c.bodies[i] = []byte{}
			}
		}
	}
	return []any{s.inbox + "/", c.ids, c.topics, c.keys, c.payloads, c.bodies, c.headers, c.json, c.created, c.priorities, c.made}
}

func marshalHeaders(headers map[string]string) (string, error) {
	text, err := json.Marshal(headers)
	return string(text), err
}

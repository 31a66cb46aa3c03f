package outbox

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// What goes to the database are texts and one bytea, for which every driver has the same idea. The session is the application's, with
// whatever search_path: every name is qualified, so that nobody's type or function stands in for PostgreSQL's.
const insertOne = `INSERT INTO postrider.outbox (topic, key, payload, body, headers, deliver_at)
VALUES ($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text::pg_catalog.jsonb, $4::pg_catalog.bytea,
	$5::pg_catalog.text::pg_catalog.jsonb, $6::pg_catalog.text::pg_catalog.timestamptz)
RETURNING id`

// A statement takes at most this many messages and, but for a single one, bytes.
const (
	chunkRows  = 10_000
	chunkBytes = 16 << 20
)

// args are the arguments of insertOne.
func (r *row) args() []any {
	args := []any{r.topic, nil, nil, nil, nil, nil}
	if r.body != nil {
		args[3] = r.body
	}
	for i, s := range map[int]*string{1: r.key, 2: r.payload, 4: r.headers, 5: r.deliverAt} {
		if s != nil {
			args[i] = *s
		}
	}
	return args
}

// enqueueBatch checks all messages, then inserts them chunk by chunk; native says that the driver encodes arrays.
func enqueueBatch(ctx context.Context, messages []Message, native bool, insert func(sql string, args []any) ([]int64, error)) ([]int64, error) {
	rows := make([]row, len(messages))
	for i := range messages {
		var err error
		if rows[i], err = messages[i].encode(ctx); err != nil {
			return nil, fmt.Errorf("enqueue batch: at index %d: %w", i, err)
		}
	}
	ids := make([]int64, 0, len(rows))
	for len(rows) > 0 {
		n := chunkLen(rows)
		got, err := insert(insertMany(rows[:n], native))
		if err == nil && len(got) != n {
			err = fmt.Errorf("the database returned %d ids instead of %d", len(got), n)
		}
		if err != nil {
			return nil, fmt.Errorf("enqueue batch: %w", err)
		}
		ids, rows = append(ids, got...), rows[n:]
	}
	return ids, nil
}

// chunkLen returns how many of rows, which are not empty, go into the next statement.
func chunkLen(rows []row) int {
	size := 0
	for i := range rows {
		if size += rows[i].size(); i > 0 && (i == chunkRows || size > chunkBytes) {
			return i
		}
	}
	return len(rows)
}

// column is one that a batch may fill.
type column struct{ name, cast string }

// bodyColumn is where body is among batchColumns.
const bodyColumn = 3

var batchColumns = [...]column{{"topic", ""}, {"key", ""}, {"payload", "::pg_catalog.jsonb"}, {"body", "::pg_catalog.bytea"},
	{"headers", "::pg_catalog.jsonb"}, {"deliver_at", "::pg_catalog.timestamptz"}}

// insertMany returns a statement that fills the columns that some of the rows have, and its arguments, an array per column: native ones, or
// texts in PostgreSQL's notation of arrays. The ids are drawn after the sort, and rows are returned as they are inserted.
func insertMany(rows []row, native bool) (sql string, args []any) {
	var names, values, arrays []string
	for i, c := range batchColumns {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.has(i) }) {
			continue
		}
		kind, cast := "pg_catalog.text::pg_catalog.text[]", c.cast
		switch {
		case !native:
			args = append(args, array(rows, i))
		case i == bodyColumn:
			kind, cast = "pg_catalog.bytea[]", ""
			args = append(args, bodies(rows))
		default:
			kind = "pg_catalog.text[]"
			args = append(args, texts(rows, i))
		}
		names = append(names, c.name)
		values = append(values, "m."+c.name+cast)
		arrays = append(arrays, fmt.Sprintf("pg_catalog.unnest($%d::%s)", len(args), kind))
	}
	into := strings.Join(names, ", ")
	return "INSERT INTO postrider.outbox (" + into + ") SELECT " + strings.Join(values, ", ") +
		" FROM ROWS FROM (" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS m (" + into + ", n) ORDER BY m.n RETURNING id", args
}

// texts are a column's values but for bodies.
func texts(rows []row, column int) []*string {
	values := make([]*string, len(rows))
	for i := range rows {
		values[i] = rows[i].texts()[column]
	}
	return values
}

func bodies(rows []row) [][]byte {
	values := make([][]byte, len(rows))
	for i := range rows {
		values[i] = rows[i].body
	}
	return values
}

// array is a column's values in PostgreSQL's notation.
func array(rows []row, column int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		rows[i].writeElement(&b, column)
	}
	b.WriteByte('}')
	return b.String()
}

// texts are the row's values but for the body.
func (r *row) texts() [len(batchColumns)]*string {
	return [...]*string{&r.topic, r.key, r.payload, nil, r.headers, r.deliverAt}
}

func (r *row) has(column int) bool {
	if column == bodyColumn {
		return r.body != nil
	}
	return r.texts()[column] != nil
}

func (r *row) writeElement(b *strings.Builder, column int) {
	if column == bodyColumn {
		if r.body == nil {
			b.WriteString("NULL")
			return
		}
		b.WriteString(`"\\x`)
		b.WriteString(hex.EncodeToString(r.body))
		b.WriteByte('"')
		return
	}
	s := r.texts()[column]
	if s == nil {
		b.WriteString("NULL")
		return
	}
	b.WriteByte('"')
	quoted.WriteString(b, *s)
	b.WriteByte('"')
}

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

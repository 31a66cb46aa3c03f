package outbox

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// row is a message as the database takes it; nil stands for NULL.
type row struct {
	topic                            string
	key, payload, headers, deliverAt *string
	priority                         *string
	body                             []byte
	uniqueKey, uniqueScope           *string
	uniqueReplace                    *string
}

// size is roughly how much of a statement the row takes, in bytes.
func (r *row) size() int {
	n := 64 + len(r.topic) + 2*len(r.body)
	for _, s := range []*string{r.key, r.payload, r.headers, r.uniqueKey, r.uniqueScope} {
		if s != nil {
			n += len(*s)
		}
	}
	return n
}

// field is a column of the outbox that a message may fill. It has one of text and bytes.
type field struct {
	name  string
	kind  string             // its type, unless text
	text  func(*row) *string // its value
	bytes func(*row) []byte
	// standard, for a column that takes no NULL, is what a row without a value has. Where no row of a statement has one, it does not name
	// the column: roles that were granted the others go on.
	standard string
}

// fields is the only list of them: statements and arguments are made from it. What goes to the database are texts and one bytea, for
// which every driver has the same idea. The session is the application's, with whatever search_path: every name is qualified, so
// that nobody's type or function stands in for PostgreSQL's.
var fields = [...]field{
	{name: "topic", text: func(r *row) *string { return &r.topic }},
	{name: "key", text: func(r *row) *string { return r.key }},
	{name: "payload", kind: "jsonb", text: func(r *row) *string { return r.payload }},
	{name: "body", kind: "bytea", bytes: func(r *row) []byte { return r.body }},
	{name: "headers", kind: "jsonb", text: func(r *row) *string { return r.headers }},
	{name: "deliver_at", kind: "timestamptz", text: func(r *row) *string { return r.deliverAt }},
	{name: "priority", kind: "int2", text: func(r *row) *string { return r.priority }, standard: "2"},
}

// given reports whether the row has the field.
func (f *field) given(r *row) bool {
	if f.bytes != nil {
		return f.bytes(r) != nil
	}
	return f.text(r) != nil
}

// used reports whether some of the rows have the field.
func (f *field) used(rows []row) bool {
	for i := range rows {
		if f.given(&rows[i]) {
			return true
		}
	}
	return false
}

// texts returns the rows' values of the field: as strings if each has one, which the driver encodes without looking behind pointers.
func (f *field) texts(rows []row) any {
	values := make([]string, len(rows))
	for i := range rows {
		text := f.text(&rows[i])
		if text == nil {
			return each(rows, f.text)
		}
		values[i] = *text
	}
	return values
}

// cast turns the text that was sent into the column's type.
func (f *field) cast() string {
	if f.kind == "" {
		return ""
	}
	return "::pg_catalog." + f.kind
}

// insertOne inserts one row without a value for the fields that have a standard one, insertWhole one with any. There are these two, so that
// a connection prepares few.
var (
	insertOne   = insertStatement(func(f *field) bool { return f.standard == "" })
	insertWhole = insertStatement(func(*field) bool { return true })
)

func insertStatement(has func(*field) bool) string {
	var names, values []string
	for i := range fields {
		f := &fields[i]
		if !has(f) {
			continue
		}
		value := fmt.Sprintf("$%d::pg_catalog.text%s", len(names)+1, f.cast())
		if f.bytes != nil {
			value = fmt.Sprintf("$%d%s", len(names)+1, f.cast())
		}
		names, values = append(names, f.name), append(values, f.orStandard(value))
	}
	return "INSERT INTO postrider.outbox (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ") RETURNING id"
}

// insert returns the statement that inserts the row, and its arguments.
func (r *row) insert() (sql string, args []any) {
	whole := slices.ContainsFunc(fields[:], func(f field) bool { return f.standard != "" && f.given(r) })
	args = make([]any, 0, len(fields))
	for i := range fields {
		switch f := &fields[i]; {
		case f.standard != "" && !whole:
		case !f.given(r):
			args = append(args, nil)
		case f.bytes != nil:
			args = append(args, f.bytes(r))
		default:
			args = append(args, *f.text(r))
		}
	}
	if whole {
		return insertWhole, args
	}
	return insertOne, args
}

func (f *field) orStandard(value string) string {
	if f.standard == "" {
		return value
	}
	return "COALESCE(" + value + ", " + f.standard + f.cast() + ")"
}

// statement inserts messages and returns a row for each, in their order: its id and, where some have a unique key, whether it is a duplicate.
type statement struct {
	sql    string
	args   []any
	unique bool
}

// statement returns what inserts the row.
func (r *row) statement(native bool) statement {
	if r.uniqueKey != nil {
		return uniqueStatement([]row{*r}, native)
	}
	sql, args := r.insert()
	return statement{sql: sql, args: args}
}

// uniqueFields are what a message may have beside the columns of the outbox. What no row of a statement has it does not name: older schemas go on.
var uniqueFields = [...]field{
	{name: "unique_key", text: func(r *row) *string { return r.uniqueKey }},
	{name: "unique_scope", text: func(r *row) *string { return r.uniqueScope }},
	{name: "unique_replace", kind: "bool", text: func(r *row) *string { return r.uniqueReplace }},
}

// uniqueStatement is for rows of which some have a unique key.
func uniqueStatement(rows []row, native bool) statement {
	s := statement{unique: true}
	var params []string
	for _, f := range slices.Concat(fields[:], uniqueFields[:]) {
		if !f.used(rows) {
			continue
		}
		array, kind, cast := f.array(rows, native)
		if cast != "" {
			cast += "[]"
		}
		s.args = append(s.args, array)
		params = append(params, fmt.Sprintf("%s => $%d::%s%s", f.name, len(s.args), kind, cast))
	}
	s.sql = "SELECT id, duplicate FROM postrider.enqueue_many(" + strings.Join(params, ", ") + ")"
	return s
}

// insertMany returns a statement that fills the columns that some of the rows have, and its arguments, an array per column: native ones, or
// texts in PostgreSQL's notation of arrays. The ids are drawn after the sort, and rows are returned as they are inserted.
func insertMany(rows []row, native bool) (sql string, args []any) {
	var names, values, arrays []string
	for i := range fields {
		f := &fields[i]
		if !f.used(rows) {
			continue
		}
		array, kind, cast := f.array(rows, native)
		args = append(args, array)
		names = append(names, f.name)
		values = append(values, f.orStandard("m."+f.name+cast))
		arrays = append(arrays, fmt.Sprintf("pg_catalog.unnest($%d::%s)", len(args), kind))
	}
	into := strings.Join(names, ", ")
	return "INSERT INTO postrider.outbox (" + into + ") SELECT " + strings.Join(values, ", ") +
		" FROM ROWS FROM (" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS m (" + into + ", n) ORDER BY m.n RETURNING id", args
}

// array returns the rows' values of the field, the type to send them as, and what turns one of them into the column's type.
func (f *field) array(rows []row, native bool) (array any, kind, cast string) {
	switch {
	case !native:
		return f.notation(rows), "pg_catalog.text::pg_catalog.text[]", f.cast()
	case f.bytes != nil:
		return each(rows, f.bytes), "pg_catalog.bytea[]", ""
	default:
		return f.texts(rows), "pg_catalog.text[]", f.cast()
	}
}

func each[T any](rows []row, value func(*row) T) []T {
	values := make([]T, len(rows))
	for i := range rows {
		values[i] = value(&rows[i])
	}
	return values
}

// notation is the rows' values as PostgreSQL writes an array of texts.
func (f *field) notation(rows []row) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		f.element(&b, &rows[i])
	}
	b.WriteByte('}')
	return b.String()
}

func (f *field) element(b *strings.Builder, r *row) {
	if !f.given(r) {
		b.WriteString("NULL")
		return
	}
	b.WriteByte('"')
	if f.bytes != nil {
		b.WriteString(`\\x`)
		b.WriteString(hex.EncodeToString(f.bytes(r)))
	} else {
		quoted.WriteString(b, *f.text(r))
	}
	b.WriteByte('"')
}

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

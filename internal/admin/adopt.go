package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// Adoption says how the rows of a table become messages: a column's name each, or an SQL expression in which r is the row.
type Adoption struct {
	Table                                                           string
	Topic, Key, Payload, Headers, DeliverAt, Priority, Where, Order string
	Backfill                                                        bool // rows that are there as well
}

// mapped is one of these parts.
type mapped struct {
	flag, wanted string // the type that it must have; empty: any
	of           *string
}

func (a *Adoption) parts() []mapped {
	return []mapped{{"topic", "text", &a.Topic}, {"key", "text", &a.Key}, {"payload", "", &a.Payload}, {"headers", "jsonb", &a.Headers},
		{"deliver-at", "timestamptz", &a.DeliverAt}, {"priority", "integer", &a.Priority}, {"where", "boolean", &a.Where}, {"order", "", &a.Order}}
}

// adopted is a table that is to be adopted.
type adopted struct {
	Adoption
	name, copier, trigger string // as SQL names them
	columns               []string
	kind                  string // of the payload: json, bytes, text or any
	rows                  int64  // that are there, about
}

// adoptable reads what there is of a table, and what its columns mean.
func adoptable(ctx context.Context, db *dbconn.Conn, a Adoption) (*adopted, error) {
	t := &adopted{Adoption: a}
	var kind, schema, table string
	var known bool
	err := db.QueryRow(ctx, `SELECT c.relkind::text, n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname), greatest(c.reltuples, 0)::bigint,
			ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
			EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'to_postrider')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = `+migrations.NamedTable, a.Table).Scan(&kind, &schema, &table, &t.name, &t.rows, &t.columns, &known)
	pgErr, failed := errors.AsType[*pgconn.PgError](err)
	switch {
	case failed && pgErr.Code == "42602": // invalid_name
		return nil, errorf(Invalid, "table %q: %s; name it as in SQL, with its schema, such as public.outboxevent or \"my shop\".events", a.Table, pgErr.Message)
	case errors.Is(err, pgx.ErrNoRows):
		return nil, errorf(NotFound, "table %q: there is no such table; name it as in SQL, with its schema, such as public.outboxevent", a.Table)
	case err != nil:
		return nil, err
	case kind != "r" && kind != "p":
		return nil, errorf(Invalid, "table %q: it is not a table, so its rows cannot be watched", a.Table)
	case schema == "postrider":
		return nil, errorf(Invalid, "table %q: it is Postrider's own", a.Table)
	case known:
		return nil, errorf(Conflict, "table %q: it is adopted already; `postrider adopt %[1]s --remove` ends that", a.Table)
	}
	t.names(schema, table)
	t.guess()
	return t, t.check(ctx, db)
}

func (t *adopted) names(schema, table string) {
	short := strings.ToValidUTF8(table[:min(len(table), 45)], "")
	t.copier = pgx.Identifier{schema, short + "_to_postrider"}.Sanitize()
	t.trigger = pgx.Identifier{schema, short + "_trigger_postrider"}.Sanitize()
}

// column is the first of these that the table has, as an expression.
func (t *adopted) column(names ...string) string {
	for _, name := range names {
		if slices.Contains(t.columns, name) {
			return "r." + pgx.Identifier{name}.Sanitize()
		}
	}
	return ""
}

// guess fills what was not said: Debezium's layout is known.
func (t *adopted) guess() {
	aggregate, kind, id := t.column("aggregatetype", "aggregate_type"), t.column("type", "event_type", "eventtype"), t.column("id", "event_id")
	if aggregate != "" && kind != "" {
		t.Topic = cmp.Or(t.Topic, fmt.Sprintf("concat_ws('.', %s, %s)", aggregate, kind))
		t.Key = cmp.Or(t.Key, t.column("aggregateid", "aggregate_id"))
		if id != "" {
			t.Headers = cmp.Or(t.Headers, fmt.Sprintf("jsonb_build_object('id', (%s)::text)", id))
		}
	}
	t.Payload = cmp.Or(t.Payload, t.column("payload"))
	for _, part := range t.parts() {
		if slices.Contains(t.columns, *part.of) {
			*part.of = t.column(*part.of)
		}
	}
}

// check asks the database whether each part can be worked out.
func (t *adopted) check(ctx context.Context, db *dbconn.Conn) error {
	for _, part := range t.parts() {
		if *part.of == "" {
			if part.flag == "topic" || part.flag == "payload" {
				return errorf(Invalid, "--%s: is not given, and the table has not Debezium's columns (aggregatetype, aggregateid, type, payload) to go by. Give one of its columns (%s) or an SQL expression in which r is the row, such as %s",
					part.flag, strings.Join(t.columns, ", "), map[string]string{"topic": `"'orders.' || r.status"`, "payload": `"to_jsonb(r)"`}[part.flag])
			}
			continue
		}
		cast := ""
		if part.wanted != "" {
			cast = "::" + part.wanted
		}
		said, err := db.Prepare(ctx, "", fmt.Sprintf("SELECT (%s)%s FROM %s r", *part.of, cast, t.name))
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
			return errorf(Invalid, "--%s %s: %s; it must be a column (%s) or an SQL expression in which r is the row", part.flag, *part.of, pgErr.Message, strings.Join(t.columns, ", "))
		} else if err != nil {
			return err
		}
		if part.flag == "payload" {
			t.kind = payloadKind(said.Fields[0].DataTypeOID)
		}
	}
	return nil
}

func payloadKind(oid uint32) string {
	switch oid {
	case pgtype.JSONBOID:
		return "json"
	case pgtype.ByteaOID:
		return "bytes"
	case pgtype.JSONOID, pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID:
		return "text"
	}
	return "any"
}

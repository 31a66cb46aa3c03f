package scenario

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// variant is a table to insert into.
type variant struct {
	name  string
	table string
	topic bool // it has the column topic
	api   bool // through package outbox, not with a statement of our own
}

// anatomy is what postrider.outbox consists of, as the database has it.
type anatomy struct {
	key       string // of the partitions, such as LIST (segment); "" if there are none
	indexes   []string
	checks    []constraint
	leaves    []leaf
	generated []string // columns besides id that only have a default
}

type constraint struct{ name, definition string }

type leaf struct{ bound, options string }

// parts are those that a copy of the outbox has beside its columns and a primary key.
type parts struct {
	defaults, index, ring bool
	checks                []constraint
}

const outboxTable = "postrider.outbox"

// dissect reads the table's anatomy.
func dissect(ctx context.Context, conn *pgx.Conn) (a anatomy, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_get_partkeydef($1::text::regclass), '')`, outboxTable).Scan(&a.key)
	if err != nil {
		return a, fmt.Errorf("dissect %s: %w", outboxTable, err)
	}
	a.indexes, err = list(ctx, conn, pgx.RowTo[string], `SELECT regexp_replace(pg_get_indexdef(i.indexrelid), '^.* (USING .*)$', '\1') FROM pg_index i
		WHERE i.indrelid = $1::text::regclass AND NOT i.indisprimary ORDER BY 1`)
	if err == nil {
		a.checks, err = list(ctx, conn, constraintOf, `SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
			WHERE conrelid = $1::text::regclass AND contype = 'c' ORDER BY conname`)
	}
	if err == nil {
		a.leaves, err = list(ctx, conn, leafOf, `SELECT pg_get_expr(c.relpartbound, c.oid), coalesce(array_to_string(c.reloptions, ', '), '')
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass ORDER BY c.oid`)
	}
	if err == nil {
		a.generated, err = list(ctx, conn, pgx.RowTo[string], `SELECT attname FROM pg_attribute
			WHERE attrelid = $1::text::regclass AND atthasdef AND attname <> 'id' ORDER BY attnum`)
	}
	if err != nil {
		return a, fmt.Errorf("dissect %s: %w", outboxTable, err)
	}
	return a, nil
}

func list[T any](ctx context.Context, conn *pgx.Conn, scan pgx.RowToFunc[T], sql string) ([]T, error) {
	rows, err := conn.Query(ctx, sql, outboxTable)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

func constraintOf(row pgx.CollectableRow) (c constraint, err error) {
	err = row.Scan(&c.name, &c.definition)
	return c, err
}

func leafOf(row pgx.CollectableRow) (l leaf, err error) {
	err = row.Scan(&l.bound, &l.options)
	return l, err
}

// copySQL makes a table with some of the outbox's parts.
func (a anatomy) copySQL(table string, p parts) string {
	var b strings.Builder
	like, key := outboxTable, ""
	if p.defaults {
		like += " INCLUDING DEFAULTS"
	}
	if p.ring {
		key = "PARTITION BY " + a.key
	}
	fmt.Fprintf(&b, "CREATE TABLE %s (LIKE %s) %s;\n", table, like, key)
	if !p.defaults {
		fmt.Fprintf(&b, "CREATE SEQUENCE %s_id;\nALTER TABLE %[1]s ALTER id SET DEFAULT nextval('%[1]s_id');\n", table)
		for _, column := range a.generated {
			fmt.Fprintf(&b, "ALTER TABLE %s ALTER %s DROP NOT NULL;\n", table, column)
		}
	}
	const primary = "ALTER TABLE %s ADD PRIMARY KEY (id);\n"
	if !p.ring {
		fmt.Fprintf(&b, primary, table)
	}
	if p.index {
		for _, using := range a.indexes {
			fmt.Fprintf(&b, "CREATE INDEX ON %s %s;\n", table, using)
		}
	}
	for _, c := range p.checks {
		fmt.Fprintf(&b, "ALTER TABLE %s ADD CONSTRAINT %s %s;\n", table, c.name, c.definition)
	}
	if p.ring {
		for i, l := range a.leaves {
			options := ""
			if l.options != "" {
				options = "WITH (" + l.options + ")"
			}
			fmt.Fprintf(&b, "CREATE TABLE %[1]s_%[2]d PARTITION OF %[1]s %[3]s %[4]s;\n", table, i, l.bound, options)
			fmt.Fprintf(&b, primary, fmt.Sprintf("%s_%d", table, i)) // as the outbox: a key for each segment
		}
	}
	return b.String()
}

// variants makes the tables that are compared.
func variants(ctx context.Context, conn *pgx.Conn) ([]variant, error) {
	a, err := dissect(ctx, conn)
	if err != nil {
		return nil, err
	}
	all := []variant{
		{name: "plain table", table: "variants.plain"},
		{name: outboxTable, table: outboxTable, topic: true},
		{name: outboxTable + " by package outbox", table: outboxTable, topic: true, api: true},
	}
	sql := []string{"CREATE SCHEMA variants", "CREATE TABLE variants.plain (id bigserial PRIMARY KEY, payload jsonb)"}
	add := func(name string, p parts) {
		table := fmt.Sprintf("variants.v%d", len(all))
		all = append(all, variant{name: name, table: table, topic: true})
		sql = append(sql, a.copySQL(table, p))
	}
	add("its columns alone", parts{})
	add("columns + defaults", parts{defaults: true})
	if len(a.indexes) > 0 {
		add("columns + defaults + index", parts{defaults: true, index: true})
		add("outbox - index", parts{defaults: true, ring: a.key != "", checks: a.checks})
	}
	if a.key != "" {
		add("columns + defaults + ring", parts{defaults: true, ring: true})
		add("outbox - ring", parts{defaults: true, index: true, checks: a.checks})
	}
	for _, c := range a.checks {
		add("columns + "+c.name, parts{checks: []constraint{c}})
	}
	if len(a.checks) > 0 {
		add("outbox - checks", parts{defaults: true, index: true, ring: a.key != ""})
	}
	for _, text := range sql {
		if _, err := conn.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol); err != nil {
			return nil, fmt.Errorf("make a variant of %s: %w\n%s", outboxTable, err, text)
		}
	}
	return all, nil
}

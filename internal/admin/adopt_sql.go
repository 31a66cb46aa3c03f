package admin

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// AdoptionPlan is the SQL that makes messages of a table's rows, or that ends it.
type AdoptionPlan struct {
	Notes      []string
	Statements []string // of one transaction
}

// PlanAdoption says how each row that is inserted into a table becomes a message, in the same transaction. It changes nothing.
func PlanAdoption(ctx context.Context, db *dbconn.Conn, a Adoption) (*AdoptionPlan, error) {
	t, err := adoptable(ctx, db, a)
	if err != nil {
		return nil, err
	}
	p := &AdoptionPlan{Statements: []string{"SET LOCAL lock_timeout = '2s';", t.copierSQL(), t.triggerSQL()}}
	for _, function := range []string{t.copier + "(" + t.name + ")", t.trigger + "()"} {
		p.Statements = append(p.Statements, "REVOKE ALL ON FUNCTION "+function+" FROM PUBLIC;")
	}
	p.Statements = append(p.Statements, fmt.Sprintf("CREATE TRIGGER to_postrider AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s();", t.name, t.trigger),
		fmt.Sprintf("COMMENT ON TRIGGER to_postrider ON %s IS '%s';", t.name, migrations.AdoptedMark))
	if t.Backfill {
		p.Statements = append(p.Statements, t.backfillSQL())
		p.Notes = append(p.Notes, fmt.Sprintf("About %d rows are there. While they are copied, whoever inserts into %s waits", t.rows, t.name))
	}
	return p, nil
}

// PlanAdoptionsEnd says how to end it. Messages that were made stay.
func PlanAdoptionsEnd(ctx context.Context, db *dbconn.Conn, table string) (*AdoptionPlan, error) {
	statements, err := migrations.Adopted(ctx, db, table)
	if err != nil {
		return nil, err
	}
	if len(statements) == 0 {
		return nil, errorf(NotFound, "table %q: it is not adopted", table)
	}
	return &AdoptionPlan{Statements: append([]string{"SET LOCAL lock_timeout = '2s';"}, statements...)}, nil
}

// Run runs it.
func (p *AdoptionPlan) Run(ctx context.Context, db *dbconn.Conn) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, statement := range p.Statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// copierSQL is the function that makes a message of a row. It runs as who has adopted the table, so that applications need no rights on
// the outbox, and trusts no setting of theirs.
func (t *adopted) copierSQL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE FUNCTION %s(r %s) RETURNS void\n    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $postrider$\n", t.copier, t.name)
	b.WriteString("DECLARE\n    its_topic text;\n    content jsonb;\n    bytes bytea;\nBEGIN\n")
	if t.Where != "" {
		fmt.Fprintf(&b, "    IF (%s) IS NOT TRUE THEN\n        RETURN;\n    END IF;\n", t.Where)
	}
	b.WriteString("    -- What a topic cannot have becomes _: the application's INSERT must not fail for it.\n")
	fmt.Fprintf(&b, "    its_topic := regexp_replace(regexp_replace((%s)::text, '[^!-)+,./-=?-~-]', '_', 'g'), '^\\$', '_');\n", t.Topic)
	b.WriteString("    its_topic := coalesce(nullif(btrim(left(regexp_replace(its_topic, '\\.{2,}', '.', 'g'), 255), '.'), ''), 'unnamed');\n")
	b.WriteString(t.contentSQL())
	fmt.Fprintf(&b, "    INSERT INTO postrider.outbox (topic, key, payload, body, headers, deliver_at, priority)\n    VALUES (its_topic, %s, content, bytes, %s, %s, %s);\n",
		optional(t.Key, "text", "NULL"), optional(t.Headers, "jsonb", "NULL"), optional(t.DeliverAt, "timestamptz", "NULL"), optional(t.Priority, "integer", "2"))
	fmt.Fprintf(&b, "END $postrider$;\nCOMMENT ON FUNCTION %s(%s) IS '%s';", t.copier, t.name, migrations.AdoptedMark)
	return b.String()
}

func optional(expression, kind, without string) string {
	if expression == "" {
		return without
	}
	if without == "NULL" {
		return fmt.Sprintf("(%s)::%s", expression, kind)
	}
	return fmt.Sprintf("coalesce((%s)::%s, %s)", expression, kind, without)
}

// contentSQL sets what the message carries. No payload is JSON's null; text that is not JSON, or that jsonb cannot hold, goes as bytes.
func (t *adopted) contentSQL() string {
	switch t.kind {
	case "bytes":
		return fmt.Sprintf("    bytes := coalesce(%s, '');\n", t.Payload)
	case "json":
		return fmt.Sprintf("    content := coalesce(%s, 'null');\n", t.Payload)
	case "text":
		return fmt.Sprintf(`    BEGIN
        content := coalesce((%[1]s)::text, 'null')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        bytes := convert_to((%[1]s)::text, 'UTF8');
    END;
`, t.Payload)
	}
	return fmt.Sprintf("    content := coalesce(to_jsonb(%s), 'null');\n", t.Payload)
}

func (t *adopted) triggerSQL() string {
	return fmt.Sprintf(`CREATE FUNCTION %[1]s() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $postrider$
BEGIN
    PERFORM %[2]s(NEW);
    RETURN NULL;
END $postrider$;
COMMENT ON FUNCTION %[1]s() IS '%[3]s';`, t.trigger, t.copier, migrations.AdoptedMark)
}

// backfillSQL copies the rows that are there. The trigger's lock keeps others out until COMMIT: no row comes between.
func (t *adopted) backfillSQL() string {
	return fmt.Sprintf(`DO $postrider$
DECLARE
    one %[1]s;
BEGIN
    FOR one IN SELECT r.* FROM %[1]s r ORDER BY %[2]s LOOP
        PERFORM %[3]s(one);
    END LOOP;
END $postrider$;`, t.name, cmp.Or(t.Order, "r.tableoid, r.ctid"), t.copier)
}

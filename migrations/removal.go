package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
)

// Removal is what it takes to remove Postrider from a database.
type Removal struct {
	// Slots are statements that run each for itself; Statements run in one transaction. Both are empty if nothing is there.
	Slots, Statements []string
	// Lost says what goes that somebody may still want.
	Lost []string
	// Against says why not to do it now.
	Against []string
	// Kept says what looks like ours and stays.
	Kept []string
}

// SQL returns all statements.
func (r *Removal) SQL() []string { return append(slices.Clone(r.Slots), r.Statements...) }

// PlanRemoval looks at what there is of Postrider, whole or in parts, and changes nothing.
func PlanRemoval(ctx context.Context, db *dbconn.Conn) (*Removal, error) {
	r := &Removal{}
	for _, look := range []func(context.Context, *dbconn.Conn) error{r.slots, r.adopted, r.publication, r.schema} {
		if err := look(ctx, db); err != nil {
			return nil, fmt.Errorf("look at what there is to remove: %w", err)
		}
	}
	return r, nil
}

// texts returns the rows of a query of one column.
func texts(ctx context.Context, db *dbconn.Conn, sql string, args ...any) ([]string, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (r *Removal) slots(ctx context.Context, db *dbconn.Conn) (err error) {
	const ours = `FROM pg_replication_slots WHERE slot_name LIKE 'postrider\_%' AND plugin = 'pgoutput' AND database = current_database()`
	if r.Slots, err = texts(ctx, db, `SELECT format('SELECT pg_drop_replication_slot(%L);', slot_name) `+ours+` AND NOT active ORDER BY 1`); err != nil {
		return err
	}
	active, err := texts(ctx, db, `SELECT format('the replication slot %s is in use by process %s', slot_name, active_pid) `+ours+` AND active ORDER BY 1`)
	r.Against = append(r.Against, active...)
	return err
}

// adopted ends what makes messages of other tables' rows: without the outbox, nobody could insert into them any more.
func (r *Removal) adopted(ctx context.Context, db *dbconn.Conn) error {
	statements, err := Adopted(ctx, db, "")
	r.Statements = append(r.Statements, statements...)
	return err
}

func (r *Removal) publication(ctx context.Context, db *dbconn.Conn) error {
	p, err := FindPublication(ctx, db)
	switch {
	case err != nil || !p.Exists:
	case p.Ours:
		r.Statements = append(r.Statements, "DROP PUBLICATION postrider;")
	default:
		r.Kept = append(r.Kept, fmt.Sprintf("the publication postrider of role %s, for %s: it is not as Postrider makes it", p.Owner, p.Tables))
	}
	return err
}

func (r *Removal) schema(ctx context.Context, db *dbconn.Conn) error {
	there, err := texts(ctx, db, `SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'postrider'
		UNION ALL SELECT '' FROM pg_namespace WHERE nspname = 'postrider'`)
	if err != nil || len(there) == 0 {
		return err
	}
	r.Statements = append(r.Statements, "DROP SCHEMA postrider CASCADE;")
	for _, look := range []struct {
		needs, sql string
		to         *[]string
	}{
		{"relays", `SELECT format('relay "%s" is registered%s', name, coalesce(', last seen ' || (to_jsonb(r) ->> 'seen_at'), '')) FROM postrider.relays r ORDER BY 1`, &r.Against},
		{"", dependents, &r.Against},
		{"outbox", `SELECT count(*) || ' retained messages' FROM postrider.outbox HAVING count(*) > 0`, &r.Lost},
		{"subscription_status", `SELECT format('%s messages that subscription "%s" has not delivered yet', lag_messages, name) FROM postrider.subscription_status WHERE lag_messages > 0 ORDER BY name`, &r.Lost},
		{"parked", `SELECT format('%s messages of subscription "%s" in state %s', count(*), subscription, state) FROM postrider.parked GROUP BY subscription, state ORDER BY subscription, state`, &r.Lost},
	} {
		if look.needs != "" && !slices.Contains(there, look.needs) {
			continue // half of it is gone
		}
		found, err := texts(ctx, db, look.sql)
		if err != nil {
			// What is half gone, or another version's, cannot be asked everything.
			found = []string{fmt.Sprintf("what %s holds (%v)", look.needs, err)}
		}
		*look.to = append(*look.to, found...)
	}
	return r.foreign(ctx, db)
}

// foreign finds what somebody else has put into the schema.
func (r *Removal) foreign(ctx context.Context, db *dbconn.Conn) error {
	own, _, err := ownTables()
	if err != nil {
		return err
	}
	all, err := texts(ctx, db, `SELECT o.kind || ' ' || o.name FROM pg_namespace n CROSS JOIN LATERAL (`+objects+`) o WHERE n.nspname = 'postrider' AND o.rank = 1 AND o.kind <> 'sequence' ORDER BY 1`)
	for _, o := range all {
		if !slices.Contains(own, o) {
			r.Against = append(r.Against, o+" is not one that Postrider makes, and would go, too")
		}
	}
	return err
}

// dependents are objects outside of the schema that CASCADE would take along.
const dependents = `
	WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = 'postrider'),
	mine AS (
		SELECT 'pg_class'::regclass AS classid, c.oid FROM pg_class c JOIN n ON n.oid = c.relnamespace
		UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN n ON n.oid = p.pronamespace
		UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN n ON n.oid = t.typnamespace),
	dependent AS (
		SELECT d.classid, d.objid, d.objsubid, CASE d.classid
			WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite x WHERE x.oid = d.objid)
			WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger x WHERE x.oid = d.objid)
			WHEN 'pg_constraint'::regclass THEN (SELECT nullif(conrelid, 0) FROM pg_constraint x WHERE x.oid = d.objid)
			WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef x WHERE x.oid = d.objid)
			WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy x WHERE x.oid = d.objid) END AS relation
		FROM pg_depend d JOIN mine m ON m.classid = d.refclassid AND m.oid = d.refobjid
		WHERE d.deptype IN ('n', 'a') AND NOT EXISTS (SELECT FROM mine x WHERE x.classid = d.classid AND x.oid = d.objid))
	SELECT DISTINCT CASE WHEN classid = 'pg_rewrite'::regclass THEN pg_describe_object('pg_class'::regclass, relation, 0)
	                     ELSE pg_describe_object(classid, objid, objsubid) END || ' depends on the schema, and would go, too'
	FROM dependent
	WHERE CASE WHEN relation IS NULL THEN classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
	           ELSE (SELECT c.relnamespace FROM pg_class c WHERE c.oid = relation) <> (SELECT oid FROM n) END
	ORDER BY 1`

// Remove does what was planned. It waits for locks for a short time only: applications wait behind it.
func (r *Removal) Remove(ctx context.Context, db *dbconn.Conn) error {
	for _, sql := range r.Slots {
		if _, err := db.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		// What goes along is in the plan.
		text := fmt.Sprintf("SET LOCAL lock_timeout = '%dms'; SET LOCAL client_min_messages = warning; %s", lockTimeout.Milliseconds(), strings.Join(r.Statements, " "))
		_, err := tx.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == lockNotAvailable {
		holders, holdersErr := Holders(ctx, db)
		return errors.Join(fmt.Errorf("the schema could not be locked within %s, it is still there: it is in use by %s", lockTimeout, holders), holdersErr)
	}
	return err
}

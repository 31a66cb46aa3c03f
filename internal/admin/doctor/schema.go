package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/migrations"
)

// checkSchema reports whether there is a schema to examine. Its version is read only by those who may read it.
func (d *examination) checkSchema(ctx context.Context) bool {
	var exists, usable bool
	err := d.db.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_and(has_schema_privilege(oid, 'USAGE')), false)
		FROM pg_namespace WHERE nspname = 'postrider'`).Scan(&exists, &usable)
	if err != nil {
		d.report("schema", StatusFail, human.OneLine(err.Error()))
		return false
	}
	if exists && !usable {
		d.report("schema", StatusFail, fmt.Sprintf("role %q may not use the schema postrider", d.role),
			fmt.Sprintf("as the schema's owner, run what `postrider grants --relay %s` prints", d.role))
		return false
	}
	version, err := migrations.Current(ctx, d.db)
	switch {
	case errors.Is(err, migrations.ErrUnreleased):
		d.report("schema", StatusFail, human.OneLine(err.Error()), "postrider uninstall --yes --force", "postrider migrate")
		return false
	case err != nil:
		d.report("schema", StatusFail, human.OneLine(err.Error()), fmt.Sprintf("as the schema's owner, run what `postrider grants --relay %s` prints", d.role))
		return false
	case version == 0:
		d.report("schema", StatusFail, "the database holds no Postrider schema", "postrider migrate")
		return false
	case version < migrations.Version:
		d.report("schema", StatusFail, fmt.Sprintf("the schema has version %d, this build needs %d", version, migrations.Version), "postrider migrate")
		return false
	case version > migrations.Version:
		d.report("schema", StatusNote, fmt.Sprintf("the schema has version %d, this build knows %d", version, migrations.Version), "upgrade this relay")
	default:
		d.report("schema", StatusOK, fmt.Sprintf("version %d", version))
	}
	return true
}

// checkRowSecurity finds tables whose rows the role may not see all of. (A partition's own policies do not apply to who reads the
// whole table.)
func (d *examination) checkRowSecurity(ctx context.Context) error {
	rows, err := d.db.Query(ctx, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'postrider' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND row_security_active(c.oid) ORDER BY 1`)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		return err
	}
	remedy := []string{fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", quoteName(d.role)), "or, without the policies:"}
	for _, table := range tables {
		remedy = append(remedy, fmt.Sprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY;", table))
	}
	d.report("row security", StatusFail, fmt.Sprintf("row security hides rows of %s from role %q: a relay refuses to take what it cannot see for what is not there",
		strings.Join(tables, ", "), d.role), remedy...)
	return nil
}

func (d *examination) checkIdentity(ctx context.Context) error {
	same, err := admin.SameIdentity(ctx, d.db)
	if err != nil {
		return err
	}
	if same {
		d.report("identity", StatusOK, "the outbox belongs to this database")
	} else {
		d.report("identity", StatusFail, "the outbox came from another database: its transaction ids mean nothing here, and a relay refuses to start",
			"postrider rebase --yes")
	}
	return nil
}

// missingGrants lists what the connecting role lacks to run a relay and its commands, as the SQL that grants it.
const missingGrants = `
	WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = 'postrider'),
	relation AS (
		SELECT p.privilege, c.oid, c.relname
		FROM pg_class c JOIN n ON n.oid = c.relnamespace
		CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) WITH ORDINALITY p (privilege, n)
		WHERE c.relkind IN ('r', 'p', 'v')
		  AND CASE p.privilege WHEN 'SELECT' THEN true
		                       WHEN 'TRUNCATE' THEN c.relispartition AND c.relname LIKE 'outbox\_%'
		                       ELSE c.relname IN ('subscriptions', 'cursors', 'parked', 'relays', 'results', 'attempts') END
	)
	SELECT format('GRANT %s ON %s TO %I;', privilege, string_agg(format('postrider.%I', relname), ', ' ORDER BY relname), current_user)
	FROM relation WHERE NOT has_table_privilege(oid, privilege) GROUP BY privilege
	UNION ALL
	SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I;', string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.proname), current_user)
	FROM pg_proc p JOIN n ON n.oid = p.pronamespace WHERE NOT has_function_privilege(p.oid, 'EXECUTE') HAVING count(*) > 0`

func (d *examination) checkPrivileges(ctx context.Context) error {
	rows, err := d.db.Query(ctx, missingGrants)
	if err != nil {
		return err
	}
	grants, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(grants) == 0 {
		d.report("privileges", StatusOK, fmt.Sprintf("role %q has what a relay needs", d.role))
		return nil
	}
	d.report("privileges", StatusFail, fmt.Sprintf("role %q lacks privileges that a relay needs", d.role),
		append(grants, fmt.Sprintf("or all at once: what `postrider grants --relay %s` prints", d.role))...)
	return nil
}

// checkNotify looks at the trigger that LISTEN rests on.
func (d *examination) checkNotify(ctx context.Context) error {
	var there bool
	err := d.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'postrider' AND c.relname = 'outbox' AND t.tgname = 'notify_outbox' AND t.tgenabled <> 'D')`).Scan(&there)
	if err != nil {
		return err
	}
	switch {
	case d.Follow == "listen" && !there:
		d.report("notify", StatusFail, "POSTRIDER_FOLLOW=listen needs the trigger that notifies, and it is not there", "SELECT postrider.enable_notify();")
	case d.Follow == "listen":
		d.report("notify", StatusOK, "the trigger that notifies is there")
	case there:
		d.report("notify", StatusNote, "the outbox has the trigger for LISTEN, which POSTRIDER_FOLLOW="+d.Follow+" does not need; each commit that notifies takes a cluster-wide lock",
			"SELECT postrider.disable_notify();  -- unless another relay listens")
	}
	return nil
}

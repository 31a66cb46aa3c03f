package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
)

// purpose is what a role's privileges are for.
type purpose struct {
	Exists, Usable, App, Worker, Relay bool
	// Missing is what an application needs besides to insert; Beyond is what neither it nor a worker needs.
	Missing, Beyond []string
}

// CASE: columns are asked for of the outbox alone, in whatever order the server looks at conditions.
const purposeQuery = `
	WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = 'postrider' AND has_schema_privilege(oid, 'USAGE')),
	relation AS (SELECT c.oid, c.relname FROM pg_class c JOIN n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition),
	may AS (
		SELECT
			coalesce((SELECT CASE WHEN r.relname = 'outbox' THEN has_column_privilege(r.oid, 'topic', 'INSERT') END FROM relation r WHERE r.relname = 'outbox'), false) AS app,
			coalesce((SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p JOIN n ON n.oid = p.pronamespace WHERE p.proname = 'complete'), false) AS worker,
			coalesce((SELECT bool_or(has_table_privilege(r.oid, 'SELECT')) FROM relation r WHERE r.relname IN ('cursors', 'subscriptions')), false) AS relay)
	SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'postrider'), EXISTS (SELECT FROM n), may.app, may.worker, may.relay,
		ARRAY(SELECT format('EXECUTE on the function %s', p.proname) FROM pg_proc p JOIN n ON n.oid = p.pronamespace
		      WHERE p.proname IN ('current_segment', 'enqueue', 'enqueue_bytes') AND NOT has_function_privilege(p.oid, 'EXECUTE')
		      UNION ALL
		      SELECT 'USAGE on the sequence outbox_id_seq' FROM pg_class c JOIN n ON n.oid = c.relnamespace
		      WHERE c.relname = 'outbox_id_seq' AND NOT has_sequence_privilege(c.oid, 'USAGE')
		      UNION ALL
		      SELECT 'SELECT on the column id' FROM relation r WHERE CASE WHEN r.relname = 'outbox' THEN NOT has_column_privilege(r.oid, 'id', 'SELECT') END),
		ARRAY(SELECT format('%s on %s', p, r.relname) FROM relation r CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
		      WHERE has_table_privilege(r.oid, p)
		      UNION ALL
		      SELECT format('INSERT of %s', c) FROM relation r CROSS JOIN unnest(ARRAY['id', 'xid', 'segment', 'created_at']) c
		      WHERE CASE WHEN r.relname = 'outbox' THEN has_column_privilege(r.oid, c, 'INSERT') END
		      UNION ALL
		      SELECT format('SELECT of %s', c) FROM relation r CROSS JOIN unnest(ARRAY['key', 'payload', 'body', 'headers']) c
		      WHERE CASE WHEN r.relname = 'outbox' THEN has_column_privilege(r.oid, c, 'SELECT') END
		      UNION ALL
		      SELECT format('EXECUTE on %s', p.proname) FROM pg_proc p JOIN n ON n.oid = p.pronamespace
		      WHERE p.proname IN ('subscribe', 'unsubscribe', 'replay', 'redrive', 'discard', 'pause', 'resume', 'set_segment_length') AND has_function_privilege(p.oid, 'EXECUTE'))
	FROM may`

// checkPurpose finds out what the role is for, and whether it is a relay's, which the other checks are for. An application's or a
// worker's role is judged as that, and is not told to become a relay's.
func (d *examination) checkPurpose(ctx context.Context) (relay bool) {
	rows, err := d.db.Query(ctx, purposeQuery)
	if err != nil {
		d.report("role", StatusWarn, "cannot be checked: "+human.OneLine(err.Error()))
		return true
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[purpose])
	if err != nil {
		d.report("role", StatusWarn, "cannot be checked: "+human.OneLine(err.Error()))
		return true
	}
	if !p.Exists || !p.Usable || p.Relay || !p.App && !p.Worker {
		return true
	}
	may, kind, flags := "enqueue messages", "an application", "--app "+d.role
	switch {
	case p.App && p.Worker:
		may, kind, flags = "enqueue messages and settle asynchronous deliveries", "an application that is a worker, too", flags+" --worker "+d.role
	case p.Worker:
		may, kind, flags = "settle asynchronous deliveries", "a worker", "--worker "+d.role
	}
	grants := fmt.Sprintf("as the schema's owner, run what `postrider grants %s` prints", flags)
	switch {
	case p.App && len(p.Missing) > 0:
		d.report("role", StatusFail, fmt.Sprintf("role %q may %s, as %s does, but lacks %s", d.role, may, kind, strings.Join(p.Missing, ", ")), grants)
	case len(p.Beyond) > 0:
		d.report("role", StatusNote, fmt.Sprintf("role %q may %s, as %s does, and more than that: %s", d.role, may, kind, strings.Join(p.Beyond, ", ")),
			"REVOKE what it does not need, and "+grants)
	default:
		d.report("role", StatusOK, fmt.Sprintf("role %q may %s, and nothing else: as it should be for %s", d.role, may, kind))
	}
	d.report("relay", StatusOK, "what concerns relays is not looked at: to examine a relay, run `postrider doctor` as its role")
	return false
}

// attributes are those of a role that reach beyond the schema.
var attributes = []struct{ column, name, meaning string }{
	{"rolsuper", "SUPERUSER", "whoever gets hold of the relay has the whole cluster"},
	{`rolbypassrls AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'postrider' AND c.relrowsecurity)`, "BYPASSRLS", "it reads past the row security of all tables"},
	{"rolcreaterole", "CREATEROLE", "it may make and change roles"},
	{"rolcreatedb", "CREATEDB", "it may make databases"},
}

// checkAttributes tells of privileges that a relay does not need.
func (d *examination) checkAttributes(ctx context.Context) error {
	has := make([]bool, len(attributes)+1)
	var columns []string
	to := []any{&has[len(attributes)]}
	for i, a := range attributes {
		columns = append(columns, a.column)
		to = append(to, &has[i])
	}
	if err := d.db.QueryRow(ctx, "SELECT rolreplication, "+strings.Join(columns, ", ")+" FROM pg_roles WHERE rolname = current_user").Scan(to...); err != nil {
		return err
	}
	n := len(d.findings)
	for i, a := range attributes {
		if !has[i] {
			continue
		}
		remedy := fmt.Sprintf("ALTER ROLE %s NO%s;", quoteName(d.role), a.name)
		if a.name == "SUPERUSER" {
			remedy = "let the relay connect as a role of its own: CREATE ROLE relay LOGIN PASSWORD '…'; and what `postrider grants --relay relay` prints"
		}
		d.report("role", StatusNote, fmt.Sprintf("role %q has %s, which a relay does not need: %s", d.role, a.name, a.meaning), remedy)
		if a.name == "SUPERUSER" {
			break // it has all others, too
		}
	}
	if has[len(attributes)] && !has[0] && !d.wantsStream() {
		d.report("replication", StatusNote, fmt.Sprintf("role %q has REPLICATION, which POSTRIDER_FOLLOW=%s does not need: %s", d.role, d.Follow, replicationMeans),
			fmt.Sprintf("ALTER ROLE %s NOREPLICATION;", quoteName(d.role)))
	}
	if len(d.findings) == n {
		d.report("role", StatusOK, fmt.Sprintf("role %q has no attribute that a relay does not need", d.role))
	}
	return nil
}

const replicationMeans = "a role that has it can also copy the whole cluster"

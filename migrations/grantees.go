package migrations

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// grantees are the roles that have all that applications, relays, workers or readers need of the schema as it is.
type grantees map[string][]string // the SQL's kind, roles

// whoHasAll looks before a migration makes objects that nobody has been granted anything on yet. A role counts if it was granted
// what `postrider grants` prints, not if it is given some of that, or is a superuser.
func whoHasAll(ctx context.Context, conn *dbconn.Conn) (grantees, error) {
	found := grantees{}
	rows, err := conn.Query(ctx, `
		WITH n AS (SELECT oid, nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'postrider'),
		function AS (SELECT p.oid, p.proname, p.proowner, p.proacl FROM pg_catalog.pg_proc p JOIN n ON n.oid = p.pronamespace
			WHERE NOT has_function_privilege('public', p.oid, 'EXECUTE')),
		callable AS (
			SELECT a.grantee, f.proname FROM function f CROSS JOIN LATERAL pg_catalog.aclexplode(f.proacl) a
			WHERE a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, f.proowner)),
		leaf AS (SELECT c.oid, c.relacl FROM pg_catalog.pg_class c JOIN n ON n.oid = c.relnamespace WHERE c.relispartition AND c.relkind = 'r' AND c.relname LIKE 'outbox\_%'),
		role AS (
			SELECT r.rolname, c.names,
			       c.n = (SELECT count(*) FROM function) AND (SELECT bool_and(EXISTS (
			           SELECT FROM pg_catalog.aclexplode(l.relacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'TRUNCATE')) FROM leaf l) AS relay
			FROM (SELECT grantee, count(*) AS n, array_agg(proname::text) AS names FROM callable GROUP BY grantee) c
			JOIN pg_catalog.pg_roles r ON r.oid = c.grantee)
		SELECT rolname::text, kind FROM role CROSS JOIN LATERAL (VALUES ('relay', relay),
			('app', names @> '{enqueue,enqueue_bytes,current_segment}'), ('worker', names @> '{complete,fail,heartbeat}'), ('reader', names @> '{deliveries_of}')) k (kind, has)
		WHERE has ORDER BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("look for roles: %w", err)
	}
	var role, kind string
	_, err = pgx.ForEachRow(rows, []any{&role, &kind}, func() error {
		found[kind] = append(found[kind], role)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for roles: %w", err)
	}
	return found, nil
}

// grantAll lets them go on: they have all that is needed of the schema as it has become.
func (g grantees) grantAll(ctx context.Context, db *sql.DB) error {
	for kind, grant := range map[string]func(string) string{"app": AppGrants, "relay": TimerGrants, "worker": WorkerGrants, "reader": ReaderGrants} {
		for _, role := range g[kind] {
			if err := execPinned(ctx, db, grant(role)); err != nil {
				return fmt.Errorf("grant role %s what is new: %w", quote(role), err)
			}
		}
	}
	return nil
}

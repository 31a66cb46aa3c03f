package migrations

import (
	"context"

	"github.com/postrider/postrider/internal/dbconn"
)

// AdoptedMark is the comment by which triggers and functions that `postrider adopt` has made are known.
const AdoptedMark = "Made by postrider adopt: rows of this table become messages."

// NamedTable is the table that $1 names, in the schema public if it says no other: sessions have no search_path of their own.
const NamedTable = `coalesce(to_regclass($1), to_regclass('public.' || $1))`

// Adopted returns the statements that end the adoption of a table, or of all tables if none is named.
func Adopted(ctx context.Context, db *dbconn.Conn, table string) ([]string, error) {
	return texts(ctx, db, `
		WITH t AS (SELECT t.tgrelid, t.tgfoid FROM pg_trigger t WHERE t.tgparentid = 0 AND t.tgname = 'to_postrider' AND obj_description(t.oid, 'pg_trigger') = $2
			AND ($1 = '' OR t.tgrelid = `+NamedTable+`))
		SELECT statement FROM (
			SELECT 1, format('DROP TRIGGER to_postrider ON %s;', x.name) FROM t CROSS JOIN LATERAL (
				SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t.tgrelid) x
			UNION ALL
			SELECT 2, format('DROP FUNCTION %I.%I();', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE p.oid IN (SELECT tgfoid FROM t) AND obj_description(p.oid, 'pg_proc') = $2
			UNION ALL
			SELECT 3, format('DROP FUNCTION %I.%I(%s);', n.nspname, p.proname, (SELECT format('%I.%I', m.nspname, c.relname) FROM pg_class c JOIN pg_namespace m ON m.oid = c.relnamespace WHERE c.oid = t.tgrelid))
			FROM t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.pronargs = 1 AND p.proargtypes[0] = c.reltype JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE obj_description(p.oid, 'pg_proc') = $2) s (rank, statement)
		ORDER BY rank, statement`, table, AdoptedMark)
}

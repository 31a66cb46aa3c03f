package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// objects lists what a schema holds, by kind and name, but for the table that a migration begins with.
const objects = `
	SELECT 1 AS rank, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table'
			ELSE 'table' END AS kind, format('postrider.%I', c.relname) AS name, c.relowner AS owner
	FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
	  AND c.relname NOT IN ('schema_migrations', 'schema_migrations_id_seq')
	UNION ALL
	SELECT 2, 'function', p.oid::pg_catalog.regprocedure::text, p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid
	UNION ALL
	SELECT 3, 'type', format('postrider.%I', t.typname), t.typowner FROM pg_catalog.pg_type t
	WHERE t.typnamespace = n.oid AND t.typtype IN ('d', 'e', 'r')`

// checkOwners says which objects of ours belong to a role that this one cannot act for: it could not change them.
func checkOwners(ctx context.Context, conn *dbconn.Conn) error {
	var schemaOwner string
	var canSchema bool
	err := conn.QueryRow(ctx, `SELECT nspowner::regrole::text, pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'postrider'`).
		Scan(&schemaOwner, &canSchema)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the schema's owner: %w", err)
	}
	if !canSchema {
		return fmt.Errorf("the schema postrider belongs to role %s: migrate as that role, or as its owner or a superuser run ALTER SCHEMA postrider OWNER TO %s",
			schemaOwner, quote(conn.Config().User))
	}
	rows, err := conn.Query(ctx, `SELECT o.kind || ' ' || o.name || ' (' || o.owner::regrole || ')'
		FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL (`+objects+`) o
		WHERE n.nspname = 'postrider' AND NOT pg_has_role(o.owner, 'USAGE') ORDER BY o.rank, o.name`)
	if err != nil {
		return fmt.Errorf("look at the schema's objects: %w", err)
	}
	theirs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look at the schema's objects: %w", err)
	}
	if len(theirs) > 0 {
		return fmt.Errorf("in the schema postrider, %d objects belong to roles that %s cannot act for: %s. Migrate as their owner, or make them its own with ALTER … OWNER TO %[2]s",
			len(theirs), quote(conn.Config().User), enumerate(theirs))
	}
	return nil
}

// clearTheWay looks at what an earlier installation, or somebody else, has left where no migration is recorded. A publication
// of ours that has outlived its schema goes; foreign tells that there is one of our name that is somebody else's.
func clearTheWay(ctx context.Context, conn *dbconn.Conn, db *sql.DB) (foreign bool, err error) {
	version, err := Current(ctx, conn)
	if err != nil {
		return false, err
	}
	if version == 0 {
		if err := checkLeftovers(ctx, conn); err != nil {
			return false, err
		}
	}
	// What the migration library wants to find first; whoever empties tables for tests has emptied this one, too.
	err = execPinned(ctx, db, `INSERT INTO `+versionTable+` (version_id, is_applied)
		SELECT 0, true WHERE NOT EXISTS (SELECT FROM `+versionTable+` WHERE version_id = 0)`)
	if err != nil {
		return false, err
	}
	publication, err := FindPublication(ctx, conn)
	if err != nil || version > 0 || !publication.Exists {
		return publication.Exists && !publication.Ours, err
	}
	if publication.Ours {
		err = execPinned(ctx, db, "DROP PUBLICATION postrider")
	}
	return !publication.Ours, err
}

// checkLeftovers says what to do about objects that no recorded migration has made.
func checkLeftovers(ctx context.Context, conn *dbconn.Conn) error {
	rows, err := conn.Query(ctx, `SELECT o.kind || ' ' || o.name FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL (`+objects+`) o
		WHERE n.nspname = 'postrider' ORDER BY o.rank, o.name`)
	if err != nil {
		return err
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(left) == 0 {
		return err
	}
	text := fmt.Sprintf("the schema postrider holds %d objects (%s), but its table schema_migrations does not say which migrations made them", len(left), enumerate(left))
	const again = "see whether anything in it is still needed, then run `postrider uninstall --yes --force` (or DROP SCHEMA postrider CASCADE) and `postrider migrate` again"
	missing, versions, err := missingTables(left)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s, and of what this build makes, %s is not there: %s", text, enumerate(missing), again)
	}
	return fmt.Errorf("%s. If that table was emptied, and this build (schema version %d) made the rest, run INSERT INTO %s (version_id, is_applied) SELECT v, true FROM unnest('{%s}'::bigint[]) v; otherwise %s",
		text, Version, versionTable, strings.Join(versions, ","), again)
}

var createdTable = regexp.MustCompile(`(?m)^CREATE (?:UNLOGGED )?(TABLE|VIEW) (postrider\.\w+)`)

// ownTables lists the tables and views that the migrations make, and the migrations' numbers.
func ownTables() (tables, versions []string, err error) {
	sources, err := read()
	versions = []string{"0"}
	for _, m := range sources {
		for _, f := range m.files {
			for _, found := range createdTable.FindAllStringSubmatch(f.text, -1) {
				tables = append(tables, strings.ToLower(found[1])+" "+found[2])
			}
		}
		versions = append(versions, fmt.Sprint(m.version))
	}
	return tables, versions, err
}

func missingTables(there []string) (missing, versions []string, err error) {
	tables, versions, err := ownTables()
	for _, t := range tables {
		if !slices.Contains(there, t) && !slices.Contains(missing, t) {
			missing = append(missing, t)
		}
	}
	return missing, versions, err
}

// Publication is what FindPublication found.
type Publication struct {
	Exists bool
	// Ours says that it is as the migrations make it: for the outbox, or for nothing since the outbox is gone.
	Ours bool
	// Tables lists what it is for.
	Tables string
	// Owner is a role.
	Owner string
}

// FindPublication looks at the publication named postrider.
func FindPublication(ctx context.Context, db Querier) (p Publication, err error) {
	// Publications for the tables of a schema exist from PostgreSQL 15 on: prattrs, pg_publication_namespace are not named here.
	err = db.QueryRow(ctx, `
		SELECT p.pubowner::regrole::text,
		       CASE WHEN p.puballtables THEN 'all tables' ELSE coalesce(t.tables, 'no table') END,
		       p.pubinsert AND NOT p.pubupdate AND NOT p.pubdelete AND NOT p.pubtruncate AND p.pubviaroot AND NOT p.puballtables
		       AND coalesce(t.tables = 'postrider.outbox', t.tables IS NULL)
		FROM pg_catalog.pg_publication p
		CROSS JOIN LATERAL (
			SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname) AS tables
			FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE r.prpubid = p.oid) t
		WHERE p.pubname = 'postrider'`).Scan(&p.Owner, &p.Tables, &p.Ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return Publication{}, nil
	}
	if err != nil {
		return Publication{}, fmt.Errorf("look at the publication: %w", err)
	}
	p.Exists = true
	if p.Tables == "no table" { // it may be for schemas
		var schemas string
		err := db.QueryRow(ctx, `SELECT coalesce(string_agg(pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), ', '), '')
			FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_publication'::regclass
			  AND d.refobjid = (SELECT oid FROM pg_catalog.pg_publication WHERE pubname = 'postrider')`).Scan(&schemas)
		if err != nil {
			return Publication{}, fmt.Errorf("look at the publication: %w", err)
		}
		if schemas != "" {
			p.Ours, p.Tables = false, schemas
		}
	}
	return p, nil
}

package migrations

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// Databases have what the files said when they were applied: a migration is never changed, and a change of the schema is a new file.
// Its line is added to testdata/checksums.txt (the test prints it) when it is released; a line is never changed.
func TestMigrationsAreAppendOnly(t *testing.T) {
	pins := map[string]string{}
	f, err := os.Open("testdata/checksums.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		if sum, name, ok := strings.Cut(scanner.Text(), "  "); ok {
			pins[name] = sum
		}
	}
	list, err := read()
	if err != nil || scanner.Err() != nil {
		t.Fatal(err, scanner.Err())
	}
	for _, m := range list {
		for _, f := range m.files {
			sum := fmt.Sprintf("%x", sha256.Sum256([]byte(f.text)))
			switch pin, ok := pins[f.name]; {
			case !ok:
				t.Errorf("%s is new: add this line to testdata/checksums.txt:\n%s  %[1]s", f.name, sum)
			case pin != sum:
				t.Errorf("%s has changed, which no database will notice that has it already: take the change back and write a new migration", f.name)
			}
			delete(pins, f.name)
		}
	}
	for name := range pins {
		t.Errorf("%s is gone, which databases have: bring it back", name)
	}
}

// A newer migration comes after all others, in files that sort as they run.
func TestMigrationsAreInOrder(t *testing.T) {
	list, err := read()
	if err != nil || list[0].version != firstVersion || list[len(list)-1].version != Version {
		t.Fatalf("migrations from %d to %d, %v; the first is to be %d, the last Version = %d", list[0].version, list[len(list)-1].version, err, firstVersion, Version)
	}
	if !slices.IsSortedFunc(list, func(a, b source) int { return int(a.version - b.version) }) {
		t.Error("the files' names do not sort as their numbers do")
	}
}

// Whoever looks at the schema with \d+ reads what each thing is.
func TestEverythingHasAComment(t *testing.T) {
	const catalogue = `
		WITH ours AS (SELECT 'postrider'::regnamespace AS n),
		object AS (
			SELECT 'schema postrider' AS what, obj_description(n, 'pg_namespace') AS said FROM ours
			UNION ALL
			SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.relname, obj_description(c.oid, 'pg_class')
			FROM pg_class c, ours WHERE relnamespace = n AND relkind IN ('r', 'p', 'v', 'S') AND relname <> 'schema_migrations_id_seq'
			UNION ALL
			SELECT 'column ' || c.relname || '.' || a.attname, col_description(c.oid, a.attnum)
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, ours
			WHERE relnamespace = n AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND attnum > 0 AND NOT attisdropped
			  AND relname <> 'schema_migrations' -- the migration library's
			UNION ALL
			SELECT 'function ' || p.oid::regprocedure, obj_description(p.oid, 'pg_proc') FROM pg_proc p, ours WHERE pronamespace = n
			UNION ALL
			SELECT 'domain ' || typname, obj_description(t.oid, 'pg_type') FROM pg_type t, ours WHERE typnamespace = n AND typtype = 'd')
		SELECT count(*)::int, coalesce(string_agg(what, ', ' ORDER BY what) FILTER (WHERE coalesce(said, '') = ''), '') FROM object`
	conn := pgtest.New(t).Conn(t)
	var n int
	var silent string
	if err := conn.QueryRow(t.Context(), catalogue).Scan(&n, &silent); err != nil {
		t.Fatal(err)
	}
	if n < 150 {
		t.Fatalf("only %d objects: the query finds nothing", n)
	}
	if silent != "" {
		t.Errorf("without a comment: %s", silent)
	}
}

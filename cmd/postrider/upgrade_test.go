package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// old is a database in use that is going to be moved: two messages are settled for billing, one is dead, two are pending.
type old struct {
	db   *pgtest.DB
	want string
}

// where shows each delivery's status, and what makes up the id of its message on the wire.
const where = `SELECT string_agg(format('%s/%s %s %s %s', (SELECT id FROM postrider.source), d.id, extract(epoch FROM d.created_at)::numeric, d.subscription, d.status), E'\n' ORDER BY d.subscription, d.id)
	FROM postrider.deliveries d`

func newOld(t *testing.T, server *pgtest.Server) old {
	t.Helper()
	return fill(t, server.NewDB(t))
}

func fill(t *testing.T, db *pgtest.DB) old {
	t.Helper()
	on(t, db.URL(), "migrate").ok()
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	for range 5 {
		on(t, db.URL(), "enqueue", "orders.created").ok()
	}
	db.Exec(t, `UPDATE postrider.cursors SET done = '{[1,3)}', saved_at = clock_timestamp() WHERE subscription = 'billing';
		INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload, reason)
		SELECT 'billing', id, 'dead', created_at, topic, payload, 'refused' FROM postrider.outbox WHERE id = 3`)
	o := old{db: db, want: oneText(t, db, where)}
	for _, part := range []string{"/1", "/5", "billing delivered", "billing dead", "billing pending", "bus pending"} {
		if !strings.Contains(o.want, part) {
			t.Fatalf("no %q in\n%s", part, o.want)
		}
	}
	return o
}

func oneText(t *testing.T, db *pgtest.DB, sql string) string {
	t.Helper()
	return one[string](t, db, sql)
}

// moved says whether the new database goes on where the old one stopped, after a rebase: same statuses, same ids on the wire, and no id
// given out twice.
func (o old) moved(t *testing.T, db *pgtest.DB) {
	t.Helper()
	on(t, db.URL(), "doctor").fails("failed").has("fail identity", "→ postrider rebase --yes")
	on(t, db.URL(), "rebase", "--yes").ok("with 5 messages, belongs to this database now", "carry the same ids")
	if got := oneText(t, db, where); got != o.want {
		t.Errorf("after the move:\n%s\nbefore:\n%s", got, o.want)
	}
	if id := on(t, db.URL(), "enqueue", "orders.created").ok().out; strings.TrimSpace(id) != "6" {
		t.Errorf("the next id is %s, want 6", id)
	}
	on(t, db.URL(), "doctor").ok("ok identity", "ok publication", "0 failed")
}

// tool runs one of PostgreSQL's programs, or says loudly that it is not there.
func tool(t *testing.T, server *pgtest.Server, name string, args ...string) {
	t.Helper()
	path := filepath.Join(server.BinDir(), name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NOT TESTED, upgrades by %s: %v", name, err)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestMoveByDumpAndRestore(t *testing.T) {
	t.Parallel()
	from, to := pgtest.Servers(t, pgtest.Options{}), pgtest.Servers(t, pgtest.Options{})
	for _, how := range []string{"custom", "directory", "plain"} {
		t.Run(how, func(t *testing.T) {
			o, db := newOld(t, from), to.NewDB(t)
			path := filepath.Join(t.TempDir(), "dump")
			tool(t, from, "pg_dump", "--format="+how, "--file="+path, o.db.URL())
			if how == "plain" {
				tool(t, to, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, db.URL())
			} else {
				tool(t, to, "pg_restore", "--exit-on-error", "--dbname="+db.URL(), path)
			}
			o.moved(t, db)
		})
	}
}

func TestMoveByPgUpgrade(t *testing.T) {
	t.Parallel()
	from := pgtest.Servers(t, pgtest.Options{})
	// Not one of NewDB's own: the old server is gone when the test ends.
	o := newOldNamed(t, from, "shop")
	o.moved(t, pgtest.Upgraded(t, from, pgtest.Options{}).At("shop"))
}

func newOldNamed(t *testing.T, server *pgtest.Server, name string) old {
	t.Helper()
	server.At("postgres").Exec(t, "CREATE DATABASE "+name)
	return fill(t, server.At(name))
}

// Logical replication, as for an upgrade in two clusters side by side (blue and green): the schema by pg_dump, the rows by a
// subscription of PostgreSQL, the sequences by psql, as the documentation says.
func TestMoveByLogicalReplication(t *testing.T) {
	t.Parallel()
	from, to := pgtest.Servers(t, pgtest.Options{}), pgtest.Servers(t, pgtest.Options{})
	o, db := newOld(t, from), to.NewDB(t)
	o.db.Exec(t, `SELECT postrider.subscribe('work', '{work.>}', 'sql:', '{"shards": 2}'), postrider.put_schedule('nightly', '0 3 * * *', 'reports.nightly');
		SELECT postrider.start_operation('redrive', 'billing', everything => true);
		INSERT INTO postrider.results (subscription, id, created_at, result) SELECT 'billing', id, created_at, '{}' FROM postrider.outbox WHERE id = 1`)
	on(t, o.db.URL(), "operations", "cancel", "1").ok()
	path := filepath.Join(t.TempDir(), "schema.sql")
	tool(t, from, "pg_dump", "--schema-only", "--schema=postrider", "--file="+path, o.db.URL())
	tool(t, to, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, db.URL())
	section := documented(t, "### Logical replication")
	o.db.Exec(t, "CREATE PUBLICATION move"+between(t, section, "CREATE PUBLICATION move", ";"))
	host := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s", from.Port(), o.db.Name)
	db.Exec(t, "CREATE SUBSCRIPTION move CONNECTION '"+host+"' PUBLICATION move")
	conn := db.Conn(t)
	eventually(t, "the tables are copied", func() bool {
		var done bool
		if err := conn.QueryRow(t.Context(), "SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel").Scan(&done); err != nil {
			t.Fatal(err)
		}
		return done
	})
	on(t, o.db.URL(), "subs", "pause", "bus").ok() // changes follow
	eventually(t, "a change has followed", func() bool {
		return oneText(t, db, "SELECT state FROM postrider.subscriptions WHERE name = 'bus'") == "paused"
	})
	for _, table := range tablesToMove(t, db) {
		if is, want := oneText(t, db, "SELECT count(*)::text FROM postrider."+table), oneText(t, o.db, "SELECT count(*)::text FROM postrider."+table); is != want {
			t.Errorf("postrider.%s has %s rows, want %s", table, is, want)
		}
	}
	db.Exec(t, "DROP SUBSCRIPTION move")
	db.Exec(t, "CREATE PUBLICATION postrider"+between(t, section, "CREATE PUBLICATION postrider", ";"))
	script := "psql -At" + between(t, section, "psql -At", "postrider --database-url")
	tool(t, to, "psql", "--version") // the script needs it
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "OLD="+o.db.URL(), "NEW="+db.URL(), "PATH="+to.BinDir()+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	o.moved(t, db)
	for _, sql := range []string{ // what has a number gets the next one
		`SELECT postrider.subscribe('more', '{more.>}', 'sql:', '{"shards": 2}')::text`,
		`SELECT postrider.start_operation('redrive', 'billing', everything => true)::text`,
	} {
		oneText(t, db, sql)
	}
}

// The publication in the documentation names all tables that have to move.
func TestPublicationOfAMoveIsWhole(t *testing.T) {
	t.Parallel()
	named := between(t, documented(t, "### Logical replication"), "CREATE PUBLICATION move FOR TABLE", "WITH")
	var list []string
	for _, name := range strings.Split(named, ",") {
		list = append(list, strings.TrimPrefix(strings.TrimSpace(name), "postrider."))
	}
	if want := tablesToMove(t, newDB(t)); !slices.Equal(slices.Sorted(slices.Values(list)), want) {
		t.Errorf("the documentation names %q, the schema has %q", list, want)
	}
}

// tablesToMove are those whose rows outlive relays.
func tablesToMove(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	return strings.Split(oneText(t, db, `SELECT string_agg(relname, ' ' ORDER BY relname COLLATE "C") FROM pg_class
		WHERE relnamespace = 'postrider'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND relpersistence = 'p'`), " ")
}

// documented is a section of docs/operations.md.
func documented(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return between(t, string(text), heading, "\n### ")
}

// between is the part of a text from a word on, and up to another one.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	part, _, also := strings.Cut(rest, to)
	if !ok || !also {
		t.Fatalf("no %q with a %q behind it in\n%s", from, to, text)
	}
	return part
}

// What is not said to be moved is refused: a relay does not start on a copy, nor does it say nothing.
func TestMoveNeedsARebase(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	on(t, db.URL(), "run").fails("postrider rebase")
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

func oneText(t *testing.T, db *pgtest.DB, sql string) (text string) {
	t.Helper()
	if err := db.Conn(t).QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
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
// subscription of PostgreSQL, the sequence by rebase.
func TestMoveByLogicalReplication(t *testing.T) {
	t.Parallel()
	from, to := pgtest.Servers(t, pgtest.Options{}), pgtest.Servers(t, pgtest.Options{})
	o, db := newOld(t, from), to.NewDB(t)
	path := filepath.Join(t.TempDir(), "schema.sql")
	tool(t, from, "pg_dump", "--schema-only", "--schema=postrider", "--file="+path, o.db.URL())
	tool(t, to, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, db.URL())
	o.db.Exec(t, "CREATE PUBLICATION move FOR TABLE postrider.outbox, postrider.source, postrider.subscriptions, postrider.cursors, postrider.parked, postrider.schema_migrations WITH (publish_via_partition_root = true)")
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
	db.Exec(t, "DROP SUBSCRIPTION move")
	db.Exec(t, "CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	o.moved(t, db)
}

// What is not said to be moved is refused: a relay does not start on a copy, nor does it say nothing.
func TestMoveNeedsARebase(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	on(t, db.URL(), "run").fails("postrider rebase")
}

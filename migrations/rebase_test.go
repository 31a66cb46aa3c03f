package migrations

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// copyInto copies a database as people do: pg_dump | psql.
func copyInto(t *testing.T, from, to *pgtest.DB, flags ...string) {
	t.Helper()
	bin := from.Server.BinDir()
	for _, name := range []string{"pg_dump", "psql"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Skipf("NOT TESTED, copies of databases by %s: %v", name, err)
		}
	}
	dump := osexec.CommandContext(t.Context(), filepath.Join(bin, "pg_dump"), from.URL())
	restore := osexec.CommandContext(t.Context(), filepath.Join(bin, "psql"), append(flags, "-X", "-q", "-v", "ON_ERROR_STOP=1", to.URL())...)
	var dumpSays, restoreSays bytes.Buffer
	dump.Stderr, restore.Stderr = &dumpSays, &restoreSays
	pipe, err := dump.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	restore.Stdin = pipe
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	restoreErr := restore.Run()
	if err := dump.Wait(); err != nil || restoreErr != nil {
		t.Fatalf("pg_dump: %v, psql: %v\n%s%s", err, restoreErr, &dumpSays, &restoreSays)
	}
}

// origin is a database with three subscriptions half-way through their work.
type origin struct {
	db   *pgtest.DB
	want map[string]map[int64]string // by subscription, what is listed in any case
}

func newOrigin(t *testing.T) origin {
	t.Helper()
	p := newProgress(t) // subscription "s": topic a, every status there is
	conn := p.conn
	subscribe(t, conn, "behind", "earliest", "a", "b", "x.>")
	subscribe(t, conn, "changed", "earliest", "b")
	exec(t, conn, `UPDATE postrider.subscriptions SET topics = '{x.*}' WHERE name = 'changed'`)
	for range 10 { // ids that are never used
		tx := begin(t, conn)
		enqueue(t, tx, "x.rolled.back")
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		enqueue(t, conn, "none")
	}
	enqueue(t, conn, "b")
	enqueue(t, conn, "x.1")
	exec(t, conn, `INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '5f0c1d6e-0000-4000-8000-000000000001', 'r1', 'v')`)
	exec(t, conn, `UPDATE postrider.cursors SET owner = '5f0c1d6e-0000-4000-8000-000000000001', trouble = 'down'`)

	o := origin{p.db, map[string]map[int64]string{}}
	for _, name := range []string{"s", "behind", "changed"} {
		o.want[name] = statuses(t, conn, name)
	}
	return o
}

// check compares what is not delivered with what was not delivered in the origin and what came since.
func (o origin) check(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for name, want := range o.want {
		got := statuses(t, conn, name)
		for _, m := range []map[int64]string{got, want} {
			maps.DeleteFunc(m, func(_ int64, status string) bool { return status == "delivered" })
		}
		if len(want) == 0 || !maps.Equal(got, want) {
			t.Errorf("subscription %s: got %v, want %v", name, got, want)
		}
	}
}

// enqueue makes messages for all subscriptions and notes them as pending: alone, in a savepoint, and several at once.
func (o origin) enqueue(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	enqueue(t, conn, "none")
	tx := begin(t, conn)
	for _, q := range []pgx.Tx{tx, begin(t, tx), tx} {
		o.want["s"][enqueue(t, q, "a")] = "pending"
		o.want["changed"][enqueue(t, q, "x.2")] = "pending"
		if q != tx {
			commit(t, q)
		}
	}
	commit(t, tx)
	for _, name := range []string{"s", "changed"} {
		for id, status := range o.want[name] {
			if status == "pending" {
				o.want["behind"][id] = status
			}
		}
	}
}

const identity = `SELECT concat_ws(' ', s.id, s.system_identifier = c.system_identifier, s.database_oid = d.oid)
	FROM postrider.source s, pg_control_system() c, pg_database d WHERE datname = current_database()`

func (o origin) rebase(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	was := map[string]fence{}
	for name := range o.want {
		was[name] = fenceOf(t, conn, name)
	}
	before := one[string](t, conn, identity)
	// A transaction that has its id before the rebase and enqueues after it.
	late := begin(t, connect(t, conn.Config().ConnString()))
	exec(t, late, `SELECT pg_current_xact_id()`)

	newest := one[int64](t, conn, `SELECT setval('postrider.outbox_id_seq', 1) * 0 + max(id) FROM postrider.outbox`)
	tx := begin(t, conn)
	if n, rows := one[int64](t, tx, `SELECT postrider.rebase()`), one[int64](t, tx, `SELECT count(*) FROM postrider.outbox`); n != rows {
		t.Errorf("rebase counted %d messages of %d", n, rows)
	}
	id := enqueue(t, tx, "x.3")
	if id <= newest {
		t.Errorf("the first id after the rebase is %d, want more than %d", id, newest)
	}
	o.want["behind"][id], o.want["changed"][id] = "pending", "pending"
	commit(t, tx)
	o.want["behind"][enqueue(t, late, "b")] = "pending"
	commit(t, late)
	o.want["behind"][enqueue(t, conn, "b")] = "pending"

	o.check(t, conn)
	if after := one[string](t, conn, identity); after[:8] != before[:8] || after[8:] != " t t" {
		t.Errorf("the source was %q, is %q: want the same id and this database", before, after)
	}
	for name := range o.want {
		if is := fenceOf(t, conn, name); is.Epoch <= was[name].Epoch || is.Version <= was[name].Version {
			t.Errorf("%s: epoch and version were %v, are %v: want both raised", name, was[name], is)
		}
	}
	if n := one[int](t, conn, `SELECT (SELECT count(*) FROM postrider.relays) + (SELECT count(*) FROM postrider.cursors WHERE num_nonnulls(owner, target, trouble) > 0)`); n != 0 {
		t.Errorf("%d rows still speak of the old relays", n)
	}
	// Settled messages beside one another make one range.
	if n := one[int](t, conn, `SELECT max((SELECT count(*) FROM unnest(done))) FROM postrider.cursors`); n > 8 {
		t.Errorf("a cursor has %d ranges", n)
	}
	// Once a parked message is delivered and its row gone, it stays settled.
	parked := one[[]int64](t, conn, `SELECT array_agg(id) FROM postrider.parked`)
	exec(t, conn, `DELETE FROM postrider.parked`)
	for _, id := range parked {
		if got := statuses(t, conn, "s")[id]; got != "delivered" {
			t.Errorf("message %d was parked, is %s", id, got)
		}
	}
	refused(t, conn, "55000 nothing to rebase", `SELECT postrider.rebase()`)
}

func TestRebaseWithinOneCluster(t *testing.T) {
	for _, flags := range [][]string{nil, {"--single-transaction"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			o := newOrigin(t)
			to := pgtest.Empty(t)
			copyInto(t, o.db, to, flags...)
			conn := to.Conn(t)
			o.check(t, conn) // transaction ids keep their meaning
			o.enqueue(t, conn)
			o.rebase(t, conn)
		})
	}
}

// CREATE DATABASE … TEMPLATE, by which this test's database was made, copies rows with all that PostgreSQL knows of them.
func TestRebaseOfTemplateCopy(t *testing.T) {
	o := newOrigin(t)
	conn := o.db.Conn(t)
	o.enqueue(t, conn)
	o.rebase(t, conn)
}

// A rebase waits for messages that are not committed: their ids lie between those of settled ones.
func TestRebaseWaitsForOpenTransactions(t *testing.T) {
	db := pgtest.New(t)
	conn, watcher, open := db.Conn(t), db.Conn(t), begin(t, db.Conn(t))
	subscribe(t, conn, "s", "now", "a")
	first, middle, last := enqueue(t, conn, "a"), enqueue(t, open, "a"), enqueue(t, conn, "a")
	settle(t, conn, "s")
	result := goExec(t, conn, `SELECT postrider.rebase()`)
	waitUntilBlocked(t, watcher, conn, result)
	commit(t, open)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "s", map[int64]string{first: "delivered", middle: "pending", last: "delivered"})
}

// In another cluster transaction ids begin low, or go on high: messages enqueued there before the rebase are pending.
func TestRebaseInAnotherCluster(t *testing.T) {
	other := pgtest.Servers(t, pgtest.Options{})
	for _, flags := range [][]string{nil, {"--single-transaction"}} {
		t.Run(fmt.Sprint("low", flags), func(t *testing.T) {
			o := newOrigin(t)
			to := other.NewDB(t)
			burn(t, o.db, xid(t, to)+500)
			o = newOrigin(t)
			rebaseInAnother(t, o, to, flags)
		})
	}
	t.Run("high", func(t *testing.T) {
		o := newOrigin(t)
		to := other.NewDB(t)
		burn(t, to, xid(t, o.db)+500)
		rebaseInAnother(t, o, to, nil)
	})
}

func rebaseInAnother(t *testing.T, o origin, to *pgtest.DB, flags []string) {
	copyInto(t, o.db, to, flags...)
	conn := to.Conn(t)
	const copied = "55000 the schema postrider was copied into this database from another cluster"
	refused(t, conn, copied, `SELECT postrider.subscribe('x', '{a}', 'stdout:')`)
	refused(t, conn, copied, `SELECT postrider.replay('s', 'earliest')`)
	refused(t, conn, copied, `UPDATE postrider.subscriptions SET topics = '{z}'`)
	exec(t, conn, `SET default_transaction_isolation = 'repeatable read'`)
	refused(t, conn, "25001 rebase needs a READ COMMITTED transaction", `SELECT postrider.rebase()`)
	exec(t, conn, `RESET default_transaction_isolation`)
	exec(t, conn, `SELECT postrider.pause('s')`)
	o.enqueue(t, conn)
	o.rebase(t, conn)
	subscribe(t, conn, "x", "now", "a")
}

func xid(t *testing.T, db *pgtest.DB) int64 {
	t.Helper()
	return one[int64](t, db.Conn(t), `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8`)
}

// burn uses transaction ids up to one.
func burn(t *testing.T, db *pgtest.DB, until int64) {
	t.Helper()
	conn := db.Conn(t)
	for one[int64](t, conn, `SELECT pg_current_xact_id()::text::int8`) < until {
	}
}

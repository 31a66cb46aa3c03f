package migrations

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// holdAdvisoryLocks takes, as a role that has been granted nothing, every advisory lock that this product and its migration library
// have ever used, with one and with two keys, and those that one would think of next.
func holdAdvisoryLocks(t *testing.T, db *pgtest.DB) {
	t.Helper()
	conn := connect(t, db.RoleURL(db.Role(t, "stranger", "")))
	exec(t, conn, `SELECT pg_advisory_lock(a, b) FROM unnest(ARRAY[1886352500, 0, 1, hashtext('postrider')]) a, generate_series(0, 16) b`)
	exec(t, conn, `SELECT pg_advisory_lock(k) FROM unnest(ARRAY[1886352500, 5887940537704921958, 4097083626, hashtext('postrider'),
		hashtextextended('postrider', 0), hashtext('goose'), 1, 0]) k`)
	exec(t, conn, `SELECT pg_advisory_lock((1886352500::bigint << 32) + b) FROM generate_series(0, 16) b`)
}

// Whoever may connect may take advisory locks: nothing waits for them.
func TestAdvisoryLocksOfStrangers(t *testing.T) {
	db := pgtest.Empty(t)
	holdAdvisoryLocks(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if n, err := Up(ctx, db.URL()); err != nil || n != count(t) {
		t.Fatalf("Up = %d, %v", n, err)
	}
	conn := db.Conn(t)
	exec(t, conn, `SET statement_timeout = '5s'`)
	subscribe(t, conn, "s", "earliest", "a")
	id := enqueue(t, conn, "a")
	for _, sql := range []string{
		`SELECT postrider.replay('s', 'now')`, `SELECT postrider.redrive('s')`, `SELECT postrider.set_segment_length('1 hour')`,
		`UPDATE postrider.source SET database_oid = 1`, `SELECT postrider.rebase()`,
	} {
		exec(t, conn, sql)
	}
	tx := begin(t, conn)
	if !one[bool](t, tx, `SELECT postrider.lock_segments()`) {
		t.Error("the emptying of segments waits for a lock that anybody can hold")
	}
	commit(t, tx)
	if got := statuses(t, conn, "s"); got[id] != "delivered" {
		t.Errorf("message %d is %s", id, got[id])
	}
	if n := one[int](t, conn, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'postrider'::regnamespace AND prosrc ~ 'advisory'`); n != 0 {
		t.Errorf("%d functions take advisory locks", n)
	}
}

// A role that was granted nothing, an application's and a worker's cannot take what starts and the emptying of segments lock.
func TestOnlyOurRolesLock(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	app, worker := db.Role(t, "app", ""), db.Role(t, "worker", "")
	exec(t, admin, AppGrants(app))
	exec(t, admin, WorkerGrants(worker))
	for _, role := range []string{app, worker, db.Role(t, "stranger", "")} {
		conn := connect(t, db.RoleURL(role))
		for _, sql := range []string{
			`SELECT postrider.keep_segments()`, `SELECT postrider.lock_segments()`, `SELECT postrider.lock_subscription('s')`,
			`LOCK TABLE postrider.source IN ACCESS SHARE MODE`, `LOCK TABLE postrider.schema_migrations IN ACCESS SHARE MODE`,
			`SELECT FROM postrider.source FOR KEY SHARE`, `SELECT postrider.lock_holders('outbox')`, `SELECT postrider.describe_holders('outbox', '{}')`,
		} {
			refused(t, conn, "42501", sql)
		}
	}
}

// A start waits for an emptying, but not without end, and then names who is in the way. The application never waits.
func TestStartsNameWhoLocks(t *testing.T) {
	db := pgtest.New(t)
	conn, app := db.Conn(t), db.Conn(t)
	exec(t, conn, `ALTER FUNCTION postrider.keep_segments() SET lock_timeout = '200ms'`)
	exec(t, conn, `ALTER FUNCTION postrider.lock_subscription(text) SET lock_timeout = '200ms'`)
	subscribe(t, conn, "s", "now", "a")
	holder := db.Conn(t)
	exec(t, holder, `SET application_name = 'the_holder'`)
	for _, c := range []struct{ lock, command, want string }{
		{`SELECT postrider.lock_segments()`, `SELECT postrider.subscribe('x', '{a}', 'stdout:')`, "55P03 the segments of the outbox have been locked"},
		{`SELECT postrider.lock_segments()`, `SELECT postrider.replay('s', 'now')`, "55P03 the segments of the outbox have been locked"},
		{`SELECT FROM postrider.cursors FOR UPDATE`, `SELECT postrider.replay('s', 'now')`, `55P03 subscription "s" has been locked`},
		{`SELECT FROM postrider.subscriptions FOR UPDATE`, `SELECT postrider.redrive('s')`, `55P03 subscription "s" has been locked`},
		{`SELECT FROM postrider.subscriptions FOR NO KEY UPDATE; SAVEPOINT a; SELECT FROM postrider.subscriptions FOR UPDATE`, `SELECT postrider.discard('s')`, `55P03 subscription "s" has been locked`},
	} {
		tx := begin(t, holder)
		if _, err := tx.Conn().PgConn().Exec(t.Context(), c.lock).ReadAll(); err != nil {
			t.Fatal(err)
		}
		refused(t, conn, c.want, c.command)
		_, err := conn.Exec(t.Context(), c.command)
		if err == nil || !strings.Contains(err.Error(), `application "the_holder") since 2`) {
			t.Errorf("%s while somebody has run %s: %v, want who it is, and since when", c.command, c.lock, err)
		}
		enqueue(t, app, "a")
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tx := begin(t, conn)
	exec(t, tx, `SELECT postrider.keep_segments()`)
	if one[bool](t, holder, `SELECT postrider.lock_segments()`) {
		t.Error("segments can be emptied while a start is chosen among their rows")
	}
	commit(t, tx)
}

// A migration waits for a lock for a moment at a time, so that applications do not queue up behind it, and goes on when it is free.
func TestUpLetsApplicationsThrough(t *testing.T) {
	db := pgtest.New(t)
	conn, reader := db.Conn(t), begin(t, db.Conn(t))
	exec(t, reader, `SELECT FROM postrider.subscriptions`)
	exec(t, conn, `SELECT 1`)
	lock := begin(t, db.Conn(t))
	exec(t, lock, `LOCK TABLE postrider.source IN SHARE MODE`)
	result := make(chan error, 1)
	go func() {
		result <- upNext(t, db, `UPDATE postrider.source SET segment_seconds = segment_seconds`)
	}()
	waiting := func() bool {
		return one[bool](t, conn, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	}
	waitFor(t, waiting)
	waitFor(t, func() bool { return !waiting() })
	waitFor(t, waiting) // it has let go, and tries again
	commit(t, lock)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	commit(t, reader)
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

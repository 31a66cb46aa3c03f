package main

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// Everything that a stranger does first works through PgBouncer with an ordinary URL, or says what to set.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			db := pgtest.Empty(t)
			url := throughBouncer(t, db, mode)
			on(t, url, "migrate").ok("the schema has version")
			on(t, url, "migrate").ok("up to date")
			on(t, url, "subs", "apply", writeFile(t, twoSubscriptions)).ok("billing created")
			on(t, url, "subs", "pause", "billing").ok()
			p := start(t, "POSTRIDER_DATABASE_URL="+url, "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=a")
			p.waitFor("found a pooler in " + mode + " mode")
			p.waitFor("msg=relaying")
			on(t, url, "enqueue", "a", `{"n":1}`).ok()
			delivered(t, db.URL(), 1)
			on(t, url, "status").ok("default active")
			doctorOn(t, url).has("pooler a pooler in " + mode)
			p.signal(syscall.SIGTERM)
			if status := p.ends(); status != 0 {
				t.Errorf("status %d", status)
			}
			if n := one[int](t, db, "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); n != 0 {
				t.Errorf("%d advisory locks are left in the pooler's sessions", n)
			}
		})
	}
	t.Run("statement", func(t *testing.T) {
		db := pgtest.Empty(t)
		url := throughBouncer(t, db, "statement")
		for _, args := range [][]string{{"migrate"}, {"run"}, {"status"}} {
			on(t, url, args...).fails("a pooler in statement mode", "set pool_mode = transaction")
		}
		doctorOn(t, url).has("a pooler in statement mode", "set pool_mode = transaction")
	})
}

func throughBouncer(t *testing.T, db *pgtest.DB, mode string) string {
	t.Helper()
	b := pgtest.Bouncers(t, db.Server, pgtest.BouncerOptions{PoolMode: mode})
	return strings.Replace(b.URL(db.Name), "&default_query_exec_mode=exec", "", 1)
}

// delivered waits until subscription default has got so many messages.
func delivered(t *testing.T, url string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages are delivered", n), func() bool {
		conn, err := admin.Connect(t.Context(), url)
		if err != nil {
			return false
		}
		defer admin.Close(conn)
		var got int
		err = conn.QueryRow(t.Context(), "SELECT count(*)::int FROM postrider.deliveries WHERE subscription = 'default' AND status = 'delivered'").Scan(&got)
		return err == nil && got == n
	})
}

// named is how a standby is named.
const named = "the server is a standby"

// Of several hosts everything finds the primary, in whatever order they stand; a standby alone is named as what it is.
func TestStandbyFirst(t *testing.T) {
	t.Parallel()
	primary := pgtest.Servers(t, pgtest.Options{WALLevel: "logical"})
	owner, err := admin.Connect(t.Context(), primary.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = owner.Exec(t.Context(), "CREATE DATABASE shop") // which nobody drops in the end: the server has gone by then
	admin.Close(owner)
	if err != nil {
		t.Fatal(err)
	}
	url := primary.URL("shop")
	if _, err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	standby := pgtest.Standbys(t, primary, pgtest.Options{})
	if err := primary.AwaitCaughtUp(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	both := strings.Replace(url, fmt.Sprintf("127.0.0.1:%d", primary.Port()),
		fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", standby.Port(), primary.Port()), 1)
	only := strings.Replace(url, fmt.Sprintf("127.0.0.1:%d", primary.Port()), fmt.Sprintf("127.0.0.1:%d", standby.Port()), 1)

	on(t, both, "subs", "apply", writeFile(t, twoSubscriptions)).ok("billing created")
	on(t, both, "subs", "pause", "billing").ok()
	p := start(t, "POSTRIDER_DATABASE_URL="+both, "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=a")
	p.waitFor("following the stream")
	on(t, both, "enqueue", "a", `{"n":1}`).ok()
	delivered(t, url, 1)
	on(t, both, "status").ok("default active")
	doctorOn(t, both).has("ok primary")

	on(t, only, "status").fails(named)
	on(t, only, "enqueue", "a").fails(named)
	doctorOn(t, only).has("fail primary", named)
	waiting := start(t, "POSTRIDER_DATABASE_URL="+only)
	waiting.waitFor(named)
	if status, body := waiting.get("/readyz"); status != 503 || !strings.Contains(body, named) {
		t.Errorf("/readyz: %d %q", status, body)
	}

	failover(t, primary, standby, both, p, waiting)
}

// failover is one. The relay that followed both hosts goes on, and so does the one that knew the standby alone. One that starts now
// does not end either, whatever it is told first.
func failover(t *testing.T, primary, standby *pgtest.Server, both string, p, waiting *process) {
	t.Helper()
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	late := start(t, "POSTRIDER_DATABASE_URL="+both)
	late.waitFor(named)
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting.waitFor("msg=relaying")
	late.waitFor("msg=relaying")
	on(t, both, "enqueue", "a", `{"n":2}`).ok()
	delivered(t, both, 2)
	for _, x := range []*process{p, waiting, late} {
		x.signal(syscall.SIGTERM)
		if status := x.ends(); status != 0 {
			t.Errorf("status %d", status)
		}
	}
}

// The first line names the real cause, and what waiting does not mend ends the start at once.
func TestTheRealCauseComesFirst(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	address := fmt.Sprintf("127.0.0.1:%d", db.Server.Port())
	for name, c := range map[string]struct{ url, cause string }{
		"no database": {"postgres://nobody@" + address + "/none", `role "nobody" does not exist`},
		"database":    {strings.Replace(strings.Replace(db.URL(), "sslmode=disable", "sslmode=prefer", 1), "/"+db.Name, "/none", 1), `database "none" does not exist`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"run"}, {"status"}} {
				r := on(t, c.url, args...).fails(c.cause)
				r.lacks("refused TLS")
				_, text, _ := strings.Cut(r.err, "postrider: ")
				if first, _, _ := strings.Cut(text, "\n"); !strings.Contains(first, c.cause) {
					t.Errorf("the first line is %q", first)
				}
			}
		})
	}
	// Of two hosts of which one is not there and the other does not want us, what the second says comes first.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	r := on(t, "postgres://nobody@"+gone+","+address+"/none", "run").fails(`role "nobody" does not exist`, "connection refused")
	if strings.Index(r.err, "connection refused") < strings.Index(r.err, "does not exist") {
		t.Errorf("in the wrong order: %s", r.err)
	}
}

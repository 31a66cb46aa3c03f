package pgtest

import (
	"testing"

	"go.uber.org/goleak"
)

// What a test does and asks takes one session, as good as new each time, and another one where that cannot be.
func TestOneSessionForATest(t *testing.T) {
	t.Run("session", func(t *testing.T) {
		db := New(t)
		pid := func() int { t.Helper(); return One[int](t, db, "SELECT pg_backend_pid()") }
		first := pid()
		db.Exec(t, "SET work_mem = '1234kB'; CREATE TEMP TABLE gone ()")
		if One[bool](t, db, "SELECT current_setting('work_mem') = '1234kB' OR to_regclass('gone') IS NOT NULL") {
			t.Error("the session keeps what was done before")
		}
		if One[int](t, db, "SELECT $1::int + 1", 1) != 2 {
			t.Error("an argument is lost")
		}
		before := One[int64](t, db, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'of_template'")
		db.Exec(t, "UPDATE of_template SET n = 1")
		if n := queryOne(t, db.URL(), "SELECT (n_tup_upd - $1)::text FROM pg_stat_user_tables WHERE relname = 'of_template'", before); n != "1" {
			t.Errorf("%s updates are counted, want 1 at once", n)
		}
		if second := pid(); second != first && db.major(t) >= 15 {
			t.Errorf("session %d has replaced session %d", second, first)
		}
		db.Exec(t, "ALTER DATABASE "+db.Name+" SET work_mem = '4321kB'")
		if got := One[string](t, db, "SHOW work_mem"); got != "4321kB" {
			t.Errorf("work_mem is %s after ALTER DATABASE", got)
		}
		db.Exec(t, "BEGIN; UPDATE of_template SET n = 2")
		if n := queryOne(t, db.URL(), "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"); n != "0" {
			t.Errorf("%s transactions are still open", n)
		}
		if err := exec1(t.Context(), db.URL(), "SELECT pg_terminate_backend($1)", pid()); err != nil {
			t.Fatal(err)
		}
		pid()
	})
	goleak.VerifyNone(t)
}

// Whoever waits for a test holds nobody up.
func TestSessionsAtTheSameTime(t *testing.T) {
	db := New(t)
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		One[bool](t, db, "SELECT pg_advisory_lock(7) IS NOT NULL")
	}()
	eventually(t, "it waits", func() bool {
		return One[bool](t, db, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
	})
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
		t.Fatal(err)
	}
	<-done
}

func (d *DB) major(t *testing.T) int {
	t.Helper()
	return One[int](t, d, "SELECT current_setting('server_version_num')::int / 10000")
}

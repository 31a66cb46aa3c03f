package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStandby copies a primary that is written to, lets commits wait for the copy,
// and goes on with the copy when the primary is dead.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := Servers(t, Options{WALLevel: "replica", Settings: map[string]string{"max_connections": "222"}})
	admin := primary.URL("postgres")
	for _, sql := range []string{`CREATE TABLE log (n bigserial PRIMARY KEY, text text)`, `ALTER SYSTEM SET work_mem = '1MB'`, `CREATE DATABASE other`} {
		if err := exec1(t.Context(), admin, sql); err != nil {
			t.Fatal(err)
		}
	}
	stop := writeUntilStopped(t, admin)
	standby := Standbys(t, primary, Options{Settings: map[string]string{"cluster_name": "second"}})
	stop()
	if err := primary.AwaitCaughtUp(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	const digest = `SELECT count(*) || ' ' || sum(n) || ' ' || md5(string_agg(text, '' ORDER BY n)) FROM log`
	if want, got := queryOne(t, admin, digest), queryOne(t, standby.URL("postgres"), digest); got != want || want[0] == '0' {
		t.Errorf("the standby has %s, the primary %s", got, want)
	}
	for sql, want := range map[string]string{
		`SHOW in_hot_standby`:  "on",
		`SHOW wal_level`:       "replica",
		`SHOW max_connections`: "222",
		`SHOW work_mem`:        "4MB", // what ALTER SYSTEM set stays with the primary
	} {
		if got := queryOne(t, standby.URL("other"), sql); got != want {
			t.Errorf("%s on the standby: %s, want %s", sql, got, want)
		}
	}
	if got := count(t, primary, "pg_replication_slots"); got != "0" {
		t.Errorf("%s slots are left on the primary", got)
	}
	waitForStandby(t, primary, standby)
	failOver(t, primary, standby)
}

// writeUntilStopped keeps a table of the primary busy, in transactions and with
// checkpoints between them.
func writeUntilStopped(t *testing.T, url string) (stop func()) {
	t.Helper()
	conn, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `INSERT INTO log (text) SELECT repeat(i::text, 50) FROM generate_series(1, 5000) i`)
		close(started)
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			sql := `INSERT INTO log (text) SELECT repeat(i::text, 50) FROM generate_series(1, 20) i`
			if i%100 == 50 {
				sql = `CHECKPOINT`
			}
			_, err = conn.Exec(t.Context(), sql)
		}
		done <- err
	}()
	<-started
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the writer: %v", err)
		}
	}
}

// waitForStandby makes commits wait for the standby, which then answers no more.
func waitForStandby(t *testing.T, primary, standby *Server) {
	admin := primary.URL("postgres")
	if err := exec1(t.Context(), admin, `ALTER SYSTEM SET synchronous_standby_names = 'second'`); err != nil {
		t.Fatal(err)
	}
	if err := exec1(t.Context(), admin, `SELECT pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the standby is synchronous", func() bool {
		return count(t, primary, `pg_stat_replication WHERE application_name = 'second' AND sync_state = 'sync'`) == "1"
	})
	if err := standby.Pause(); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() { committed <- exec1(t.Context(), admin, `INSERT INTO log (text) VALUES ('synchronous')`) }()
	eventually(t, "the commit waits", func() bool { return count(t, primary, `pg_stat_activity WHERE wait_event = 'SyncRep'`) == "1" })
	if err := standby.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-committed; err != nil {
		t.Errorf("the commit: %v", err)
	}
}

func failOver(t *testing.T, primary, standby *Server) {
	if err := standby.Restart(t.Context(), "fast"); err != nil {
		t.Errorf("restart the standby: %v", err)
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := exec1(t.Context(), standby.URL("postgres"), `INSERT INTO log (text) VALUES ('early')`); err == nil {
		t.Error("a standby takes writes")
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := exec1(t.Context(), standby.URL("postgres"), `INSERT INTO log (text) VALUES ('promoted')`); err != nil {
		t.Errorf("the first write: %v", err)
	}
	if got := count(t, standby, `log WHERE text IN ('synchronous', 'promoted')`); got != "2" {
		t.Errorf("%s of two rows are on the new primary", got)
	}
	if err := standby.Promote(t.Context()); err == nil || !strings.Contains(err.Error(), "promote the standby") {
		t.Errorf("promote a primary: %v", err)
	}
	if _, err := primary.Standby(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "start a standby: back the primary up: ") {
		t.Errorf("a standby of a dead server: %v", err)
	}
	stopDead(t, primary)
}

// stopDead stops a killed server and looks for the shared memory that it has left.
func stopDead(t *testing.T, s *Server) {
	const table = "/proc/sysvipc/shm"
	if !exists(table) {
		t.Log("no way to list shared memory here")
	}
	lockFile, err := os.ReadFile(filepath.Join(dataDir(s.dir), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Fields(strings.Split(string(lockFile), "\n")[6])[0]
	left := func() bool {
		text, err := os.ReadFile(table)
		return err == nil && strings.Contains(string(text), " "+key+" ")
	}
	if !left() && exists(table) {
		t.Errorf("the killed server has left no shared memory with key %s", key)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if left() {
		t.Errorf("shared memory with key %s outlived the server", key)
	}
}

package main

import (
	"syscall"
	"testing"
)

// A database that goes away while a relay prepares it is waited for, like one that was not there yet.
func TestRunOutlivesALossWhilePreparing(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	app := db.URL() + "&application_name=preparing"
	lock := db.Conn(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := lock.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("BEGIN; LOCK TABLE postrider.schema_migrations")
	p := start(t, "POSTRIDER_DATABASE_URL="+app, "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=a")
	eventually(t, "it waits for the lock, and is cut off", func() bool {
		return one[bool](t, db, `SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity
			WHERE application_name = 'preparing' AND wait_event_type = 'Lock' AND datname = current_database()`)
	})
	p.waitFor("the database went away while it was prepared")
	exec("COMMIT")
	p.waitFor("msg=relaying")
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
}

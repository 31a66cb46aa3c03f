package pgtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// backendOf tells which backend serves the next transaction of conn.
func backendOf(ctx context.Context, conn *pgx.Conn) (pid int, err error) {
	var sum int
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid(), $1::int + 1`, 2).Scan(&pid, &sum)
	if err == nil && sum != 3 {
		err = errors.New("2 + 1 is not 3")
	}
	return pid, err
}

func TestBouncer(t *testing.T) {
	db := New(t)
	for mode, shared := range map[string]bool{"": true, "session": false} {
		b := Bouncers(t, db.Server, BouncerOptions{PoolMode: mode, Settings: map[string]string{"default_pool_size": "1"}})
		first, err := connect(t, b.URL(db.Name))
		if err != nil {
			t.Fatal(err)
		}
		backend, err := backendOf(t.Context(), first)
		if err != nil || backend == int(first.PgConn().PID()) {
			t.Fatalf("mode %q: backend %d: %v", mode, backend, err)
		}
		second, err := connect(t, b.URL(db.Name))
		if err != nil {
			t.Fatal(err)
		}
		patience := cleanupTimeout
		if !shared {
			patience = 200 * time.Millisecond // for the only backend, which the first client keeps
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if got, err := backendOf(ctx, second); shared != (err == nil && got == backend) {
			t.Errorf("mode %q: backend %d for the first, %d for the second client: %v", mode, backend, got, err)
		}
	}
}

func TestBouncerUser(t *testing.T) {
	db := New(t)
	role := db.Role(t, "pooled", "")
	b := Bouncers(t, db.Server, BouncerOptions{User: role})
	if got := queryOne(t, b.URL(db.Name), `SELECT current_user`); got != role {
		t.Errorf("the user is %s, want %s", got, role)
	}
	for range 2 {
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if running(b.proc.pid) || exists(b.dir) {
		t.Errorf("pid %d or directory %s outlived Stop", b.proc.pid, b.dir)
	}
}

func TestBouncerRefused(t *testing.T) {
	db := New(t)
	_, err := StartBouncer(t.Context(), db.Server, BouncerOptions{PoolMode: "whenever"})
	if err == nil || !strings.Contains(err.Error(), "start PgBouncer: PgBouncer exited") || !strings.Contains(err.Error(), "whenever") {
		t.Errorf("the error does not show the log: %v", err)
	}
	defer func(old []string) { bouncerPlaces = old }(bouncerPlaces)
	bouncerPlaces = []string{"/nonexistent"}
	t.Setenv("PATH", t.TempDir())
	if _, err := searchBouncer(); err == nil || !strings.Contains(err.Error(), "apt-get install pgbouncer") {
		t.Errorf("without the program: %v", err)
	}
}

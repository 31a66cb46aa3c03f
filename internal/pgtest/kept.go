package pgtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// kept is the connection on which a test does one thing after another and asks how things are. To begin a session, and to learn anew what is in
// the database, costs a server more than most of what it is asked.
type kept struct {
	mu   sync.Mutex
	conn *pgx.Conn // or nil
}

// changesSessions are words of statements after which a session begins in another way than those that are there.
var changesSessions = []string{"ALTER DATABASE", "ALTER ROLE", "ALTER SYSTEM"}

// with does something as the superuser, in a session that is as good as new. While one thing is being done another gets a connection of its own:
// the first may wait for it.
func (d *DB) with(t testing.TB, sql string, do func(*pgx.Conn) error) error {
	if !d.kept.mu.TryLock() {
		conn, err := d.dial(t.Context())
		if err != nil {
			return err
		}
		return errors.Join(do(conn), hangUp(conn))
	}
	defer d.kept.mu.Unlock()
	if err := d.renew(t); err != nil {
		return err
	}
	err := do(d.kept.conn)
	changed := slices.ContainsFunc(changesSessions, func(words string) bool { return strings.Contains(sql, words) })
	// A session that ends has its server count at once what was written; one that goes on, when it likes. PostgreSQL 14 cannot be told to.
	if _, told := d.kept.conn.Exec(t.Context(), "SELECT pg_stat_force_next_flush()"); told != nil || changed || d.kept.conn.PgConn().TxStatus() != 'I' {
		_ = d.forget(d.kept.conn) // it may have broken: err says so, if that matters
	}
	return err
}

// renew makes the kept session as good as new, or begins one: the first, or where the last has ended with its server.
func (d *DB) renew(t testing.TB) error {
	k := &d.kept
	if k.conn != nil {
		if _, err := k.conn.Exec(t.Context(), "DISCARD ALL"); err == nil {
			return nil
		}
		_ = d.forget(k.conn) // it had broken
	}
	conn, err := d.dial(t.Context())
	if err != nil {
		return err
	}
	k.conn = conn
	t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.conn == conn {
			_ = d.forget(conn) // its server may have gone before
		}
	})
	return nil
}

func (d *DB) forget(conn *pgx.Conn) error {
	d.kept.conn = nil
	return hangUp(conn)
}

// dial connects, for statements that are not prepared: what they mean may change from one time to the next.
func (d *DB) dial(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(d.URL())
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	return pgx.ConnectConfig(ctx, config)
}

func hangUp(conn *pgx.Conn) error {
	ctx, cancel := cleanupContext()
	defer cancel()
	return conn.Close(ctx)
}

// Exec runs sql as the superuser, in a session that keeps nothing of what was done before. Without args it may
// hold several statements.
func (d *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if err := d.with(t, sql, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	}); err != nil {
		t.Fatalf("run %q: %v", sql, err)
	}
}

// One returns the one value that sql yields, as the superuser, in a session as that of [DB.Exec].
func One[T any](t testing.TB, d *DB, sql string, args ...any) (value T) {
	t.Helper()
	if err := d.with(t, sql, func(conn *pgx.Conn) error { return conn.QueryRow(t.Context(), sql, args...).Scan(&value) }); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

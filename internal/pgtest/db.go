package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// cleanupTimeout bounds each clean-up step of a test.
const cleanupTimeout = 30 * time.Second

// DB is a database that belongs to one test.
type DB struct {
	Server *Server
	Name   string

	roles []string
	kept  kept
}

// URL returns a connection string as the superuser.
func (d *DB) URL() string { return d.Server.URL(d.Name) }

// RoleURL returns a connection string as role; no password is needed.
func (d *DB) RoleURL(role string) string { return d.Server.roleURL(role, d.Name) }

func (s *Server) roleURL(role, db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(role),
		Host:     fmt.Sprintf("127.0.0.1:%d", s.port),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Conn returns a superuser's connection, closed when the test ends.
func (d *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL())
	if err != nil {
		t.Fatalf("connect to the test's database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext()
		defer cancel()
		if err := conn.Close(ctx); err != nil && ctx.Err() != nil {
			t.Errorf("close the test's connection: %v", err)
		}
	})
	return conn
}

// Pool returns a superuser's pool, closed when the test ends. Closing waits for
// connections that were acquired and not released.
func (d *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), d.URL())
	if err != nil {
		t.Fatalf("open a pool on the test's database: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Role creates a login role named prefix plus something unique, with attributes
// such as "REPLICATION", and returns its name. It is dropped after the test's
// database, together with all that it owned or was granted there. Roles belong to
// the cluster, so a test that names a role by itself must find a unique name.
func (d *DB) Role(t testing.TB, prefix, attrs string) string {
	t.Helper()
	name := uniqueName(prefix)
	d.Exec(t, "CREATE ROLE "+quote(name)+" LOGIN "+attrs)
	d.roles = append(d.roles, name)
	return name
}

// drop removes the database, whoever is connected to it, and its roles.
func (d *DB) drop(ctx context.Context) error {
	admin, err := pgx.Connect(ctx, d.Server.URL("postgres"))
	if err != nil {
		return err
	}
	err = dropDatabase(ctx, admin, d.Name)
	for _, role := range d.roles {
		// What the role had in the database went with it; grants on shared objects are left.
		_, dropErr := admin.Exec(ctx, fmt.Sprintf("DROP OWNED BY %s; DROP ROLE %[1]s", quote(role)))
		err = errors.Join(err, dropErr)
	}
	return errors.Join(err, admin.Close(ctx))
}

// dropDatabase drops a database. FORCE ends sessions, but neither the walsender of
// an active slot nor a prepared transaction, so those are ended by hand first.
func dropDatabase(ctx context.Context, admin *pgx.Conn, name string) error {
	for {
		_, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
		if err == nil {
			return nil
		}
		_, killErr := admin.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active`, name)
		if err = errors.Join(err, killErr, rollbackPrepared(ctx, admin, name)); !pause(ctx) || admin.IsClosed() {
			return err
		}
	}
}

// rollbackPrepared rolls back what a test prepared and left.
func rollbackPrepared(ctx context.Context, admin *pgx.Conn, name string) error {
	rows, err := admin.Query(ctx, `SELECT 'ROLLBACK PREPARED ' || quote_literal(gid) FROM pg_prepared_xacts WHERE database = $1`, name)
	if err != nil {
		return err
	}
	commands, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(commands) == 0 {
		return err
	}
	config := admin.Config()
	config.Database = name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	for _, command := range commands {
		_, execErr := conn.Exec(ctx, command)
		err = errors.Join(err, execErr)
	}
	return errors.Join(err, conn.Close(ctx))
}

// exec1 runs sql on a connection of its own.
func exec1(ctx context.Context, url, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	closeCtx, cancel := cleanupContext()
	defer cancel()
	return errors.Join(err, conn.Close(closeCtx))
}

// query1 returns the one value that sql yields, on a connection of its own.
func query1[T any](ctx context.Context, url, sql string, args ...any) (value T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return value, err
	}
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	closeCtx, cancel := cleanupContext()
	defer cancel()
	return value, errors.Join(err, conn.Close(closeCtx))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// cleanupContext is for work after t.Context() has been cancelled.
func cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), cleanupTimeout)
}

// writer replaces nil by a writer that discards.
func writer(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Package relaytest has a database as the engine finds it, for the tests of its rooms.
package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/relay/internal/async"
)

// Patience is when a wait of a test is given up: it promises nothing, and is far beyond what a busy machine takes.
const Patience = time.Minute

// Main runs the tests of a package whose databases have been migrated.
func Main(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// Database is a migrated database with roles of least privilege.
type Database struct {
	t     testing.TB
	DB    *pgtest.DB
	Admin *pgxpool.Pool
	App   *pgxpool.Pool
	Role  string // the relay's
}

// New makes roles in a database that has been migrated.
func New(t testing.TB, db *pgtest.DB) *Database {
	t.Helper()
	d := &Database{t: t, DB: db, Admin: db.Pool(t)}
	// The sinks of these tests are no kinds that anybody else knows.
	d.Exec("DROP TRIGGER sink_is_known ON postrider.subscriptions")
	// The database was cloned from a template, which changed its oid.
	d.Exec("UPDATE postrider.source SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())")
	app := db.Role(t, "app", "")
	d.Role = db.Role(t, "relay", "REPLICATION")
	d.Exec(migrations.AppGrants(app))
	d.Exec(migrations.RelayGrants(d.Role))
	pool, err := pgxpool.New(t.Context(), db.RoleURL(app))
	Must(t, err)
	t.Cleanup(pool.Close)
	d.App = pool
	return d
}

// Exec runs sql as the superuser; without args it may hold several statements.
func (d *Database) Exec(sql string, args ...any) {
	d.t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := d.Admin.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// Publish inserts messages, one transaction each, and returns their ids.
func (d *Database) Publish(topic, key string, payloads ...string) []int64 {
	d.t.Helper()
	ids := make([]int64, len(payloads))
	for i, p := range payloads {
		Must(d.t, d.App.QueryRow(d.t.Context(), "SELECT postrider.enqueue($1, $2::text::jsonb, nullif($3, ''))", topic, p, key).Scan(&ids[i]))
	}
	return ids
}

// FillSegments inserts rows into some segments, in ascending order of id: as a superuser, the only one who may choose them.
func (d *Database) FillSegments(rows int, segments ...int) {
	d.t.Helper()
	d.Exec(`INSERT INTO postrider.outbox (segment, topic, payload)
		SELECT ($1::int[])[1 + n * $2::int / $3::int], 'a.b', '{}' FROM generate_series(0, $3::int - 1) n`, segments, len(segments), rows)
}

// OnePool is the relay's pool with a single connection.
func (d *Database) OnePool() *dbconn.Pool {
	d.t.Helper()
	config, err := dbconn.ParseConfig(d.DB.RoleURL(d.Role))
	Must(d.t, err)
	config.MaxConns = 1
	pool, err := dbconn.NewPool(d.t.Context(), config)
	Must(d.t, err)
	d.t.Cleanup(pool.Close)
	return pool
}

// Scalar returns the result of a query with one value.
func Scalar[T any](d *Database, sql string, args ...any) T {
	d.t.Helper()
	var v T
	if err := d.Admin.QueryRow(d.t.Context(), sql, args...).Scan(&v); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually polls until the condition holds.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	EventuallyIn(t, Patience, what, ok)
}

// EventuallyIn is Eventually with a limit of its own. It asks for a fifth of the time at most: what it waits for needs the machine, too.
func EventuallyIn(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		began := time.Now()
		if ok() {
			return
		}
		if began.After(deadline) {
			t.Fatalf("still not after %s: %s", limit, what)
		}
		async.Sleep(t.Context(), min(max(4*time.Since(began), 2*time.Millisecond), 100*time.Millisecond))
	}
}

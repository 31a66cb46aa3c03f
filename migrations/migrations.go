// Package migrations holds the schema of Postrider as plain SQL files and brings a database up to it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/postrider/postrider/internal/dbconn"
)

//go:embed *.sql
var files embed.FS

// Version is the newest migration: what a relay of this build expects to find.
const Version = 11

// versionTable is kept by the migration library.
const versionTable = "postrider.schema_migrations"

// Up brings the database to Version under a session lock, so that several relays may start at once. It returns the
// number of migrations applied. The role needs CREATE on the database, except if there is nothing to do.
func Up(ctx context.Context, databaseURL string) (int, error) {
	applied, err := up(ctx, databaseURL)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

func up(ctx context.Context, databaseURL string) (applied int, err error) {
	pool, err := dbconn.ParseConfig(databaseURL)
	if err != nil {
		return 0, err
	}
	config := pool.ConnConfig
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if done, err := upToDate(ctx, config); done || err != nil {
		return 0, err
	}
	if _, err := db.ExecContext(ctx, createSchema); err != nil {
		return 0, fmt.Errorf("create schema postrider: %w", err)
	}
	provider, err := newProvider(db)
	if err != nil {
		return 0, err
	}
	results, err := provider.Up(ctx)
	return len(results), err
}

// createSchema takes a lock: IF NOT EXISTS alone fails when two do it at once.
const createSchema = `DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(1886352500, 2);
    CREATE SCHEMA IF NOT EXISTS postrider;
END $$`

// upToDate spares roles that may not create anything the attempt.
func upToDate(ctx context.Context, config *pgx.ConnConfig) (done bool, err error) {
	conn, err := dbconn.Connect(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	version, err := Current(ctx, conn)
	return version >= Version, err
}

// newProvider looks for the lock once a second: migrations take a fraction of that.
func newProvider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable))
}

// Querier is the part of a pgx connection or pool that Current needs.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Current returns the version of the database's schema, 0 if there is none.
func Current(ctx context.Context, db Querier) (int, error) {
	var version int
	err := db.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable+" WHERE is_applied").Scan(&version)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// Package migrations holds the schema of Postrider as plain SQL files and brings a database up to it.
package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/postrider/postrider/internal/dbconn"
)

// Version is the newest migration: what a relay of this build expects to find.
const Version = 20

// versionTable is kept by the migration library.
const versionTable = "postrider.schema_migrations"

const (
	// lockTimeout is how long a statement of a migration waits for a lock: what applications do waits behind it.
	lockTimeout = 2 * time.Second
	// patience is how long Up tries to get the locks it needs, and how long it waits for another who migrates.
	patience   = 30 * time.Second
	retryAfter = 100 * time.Millisecond
)

// Up brings the database to Version, so that several relays may start at once: one waits for the other. It returns the number of
// migrations applied. Roles that had all that AppGrants, RelayGrants or WorkerGrants name have it afterwards. The role needs CREATE
// on the database and to own the schema if it exists, except if there is nothing to do. Locks are waited for for a short time each,
// and half a minute in all; the error names who holds them.
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
	dbconn.Unprepared(config) // it is one statement after another, and through a pooler none is there at the next transaction
	conn, err := dbconn.Connect(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if done, err := upToDate(ctx, conn); done || err != nil {
		return 0, err // roles that may not create anything are spared the attempt
	}
	if err := prepareSchema(ctx, conn); err != nil {
		return 0, err
	}
	unlock, err := lockSchema(ctx, conn)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	// Another may have done it meanwhile.
	if done, err := upToDate(ctx, conn); done || err != nil {
		return 0, err
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	return applyMissing(ctx, conn, db)
}

// applyMissing runs under the lock that conn holds, on connections of db.
func applyMissing(ctx context.Context, conn *dbconn.Conn, db *sql.DB) (applied int, err error) {
	foreign, err := clearTheWay(ctx, conn, db)
	if err != nil {
		return 0, err
	}
	grantees, err := whoHasAll(ctx, conn)
	if err != nil {
		return 0, err
	}
	provider, err := provide(db, foreign)
	if err != nil {
		return 0, err
	}
	for before := time.Now(); ; {
		results, err := provider.Up(ctx)
		applied += len(results)
		if partial, ok := errors.AsType[*goose.PartialError](err); ok {
			applied += len(partial.Applied)
		}
		if err == nil {
			break
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != lockNotAvailable {
			return applied, err
		}
		if time.Since(before) > patience {
			holders, holdersErr := Holders(ctx, conn)
			return applied, errors.Join(fmt.Errorf("%w: no lock for %s: the schema's tables are held by %s", err, patience, holders), holdersErr)
		}
		if err := pause(ctx); err != nil { // applications get their turn between two attempts
			return applied, err
		}
	}
	return applied, grantees.grantAll(ctx, db)
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryAfter):
		return nil
	}
}

func upToDate(ctx context.Context, conn *dbconn.Conn) (bool, error) {
	version, err := Current(ctx, conn)
	return version >= Version, err
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

// list is names as a sentence has them, the first few of many.
func list(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Package migrations holds the schema of Postrider as plain SQL files and brings a database up to it.
package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/schema"
)

// Version is the newest migration: what a relay of this build expects to find. The first is 21: those before were never released.
const Version = schema.Version

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
	list, err := read()
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	applied, err := up(ctx, databaseURL, list)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// up brings the database to the last migration of the list.
func up(ctx context.Context, databaseURL string, list []source) (applied int, err error) {
	newest := int(list[len(list)-1].version)
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
	if done, err := upToDate(ctx, conn, newest); done || err != nil {
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
	if done, err := upToDate(ctx, conn, newest); done || err != nil {
		return 0, err
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	return applyMissing(ctx, conn, db, list)
}

// applyMissing runs under the lock that conn holds, on connections of db.
func applyMissing(ctx context.Context, conn *dbconn.Conn, db *sql.DB, list []source) (applied int, err error) {
	foreign, err := clearTheWay(ctx, conn, db)
	if err != nil {
		return 0, err
	}
	grantees, err := whoHasAll(ctx, conn)
	if err != nil {
		return 0, err
	}
	provider, err := provide(db, list, foreign)
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

func upToDate(ctx context.Context, conn *dbconn.Conn, newest int) (bool, error) {
	version, err := Current(ctx, conn)
	return version >= newest, err
}

// Querier is the part of a pgx connection or pool that Current needs.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// firstVersion is the oldest migration that there is. Older ones were of builds that were never released.
const firstVersion = 21

// ErrUnreleased is a schema that a build has made that was never released.
var ErrUnreleased = errors.New("the schema postrider has migrations of a build that was never released")

// Current returns the version of the database's schema, 0 if there is none. ErrUnreleased: nothing migrates from there.
func Current(ctx context.Context, db Querier) (int, error) {
	var version int
	var unreleased []int64
	err := db.QueryRow(ctx, "SELECT coalesce(max(version_id), 0), coalesce(array_agg(DISTINCT version_id) FILTER (WHERE version_id BETWEEN 1 AND $1), '{}') FROM "+
		versionTable+" WHERE is_applied", firstVersion-1).Scan(&version, &unreleased)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if len(unreleased) > 0 {
		var names []string
		for _, v := range unreleased {
			names = append(names, strconv.FormatInt(v, 10))
		}
		return 0, fmt.Errorf("%w (%s), and nothing leads on from there: see whether anything in it is still needed, then run "+
			"`postrider uninstall --yes --force` (or DROP SCHEMA postrider CASCADE) and `postrider migrate` again", ErrUnreleased, enumerate(names))
	}
	return version, nil
}

// enumerate is names as a sentence has them, the first few of many.
func enumerate(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

package admin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// Migrate applies what is missing up to a version, 0 for the newest. On a schema that is current it needs no privilege beyond reading it.
func Migrate(ctx context.Context, db *dbconn.Conn, databaseURL string, to int) (int, error) {
	version, err := migrations.Current(ctx, db)
	if err != nil {
		return 0, err
	}
	switch {
	case to != 0 && to < version:
		return 0, errorf(Invalid, "--to %d: the schema has version %d already, and there is no way back (older relays go on beside it)", to, version)
	case to == 0 && version >= migrations.Version:
		return 0, nil
	}
	n, err := migrate(ctx, databaseURL, to)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return 0, errorf(Forbidden, "the schema in database %q has version %d, this build needs %d, and role %q may not change it: run `postrider migrate` as the schema's owner (%s)",
			db.Config().Database, version, migrations.Version, db.Config().User, pgErr.Message)
	}
	return n, err
}

func migrate(ctx context.Context, databaseURL string, to int) (int, error) {
	if to == 0 {
		return migrations.Up(ctx, databaseURL)
	}
	return migrations.UpTo(ctx, databaseURL, to)
}

// SchemaVersion returns the version of the database's schema, 0 if there is none.
func SchemaVersion(ctx context.Context, db *dbconn.Conn) (int, error) {
	return migrations.Current(ctx, db)
}

// MigrationSteps returns the migrations of this build and of the database, in order.
func MigrationSteps(ctx context.Context, db *dbconn.Conn) ([]migrations.Step, error) {
	return migrations.Status(ctx, db)
}

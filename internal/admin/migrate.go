package admin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// Migrate applies what is missing. On a schema that is current it needs no privilege beyond reading it.
func Migrate(ctx context.Context, db *dbconn.Conn, databaseURL string) (int, error) {
	version, err := migrations.Current(ctx, db)
	if err != nil {
		return 0, err
	}
	if version >= migrations.Version {
		return 0, nil
	}
	n, err := migrations.Up(ctx, databaseURL)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return 0, errorf(Forbidden, "the schema in database %q has version %d, this build needs %d, and role %q may not change it: run `postrider migrate` as the schema's owner (%s)",
			db.Config().Database, version, migrations.Version, db.Config().User, pgErr.Message)
	}
	return n, err
}

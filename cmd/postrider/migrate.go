package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of the database up to date",
		Long:  "Create or update the schema postrider. The role needs CREATE on the database, and to own the schema if it exists.\nSeveral may run at once: one waits for the other.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, s *settings) error {
				n, err := migrate(ctx, db, s.DatabaseURL)
				if err != nil {
					return err
				}
				if n == 0 {
					a.printf("The schema is up to date (version %d).\n", migrations.Version)
				} else {
					a.printf("%s applied: the schema has version %d now.\n", plural(int64(n), "migration"), migrations.Version)
				}
				return nil
			})
		},
	}
}

// migrate applies what is missing. On a schema that is current it needs no privilege beyond reading it.
func migrate(ctx context.Context, db *dbconn.Conn, databaseURL string) (int, error) {
	version, err := migrations.Current(ctx, db)
	if err != nil {
		return 0, err
	}
	if version >= migrations.Version {
		return 0, nil
	}
	n, err := migrations.Up(ctx, databaseURL)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return 0, fmt.Errorf("the schema in database %q has version %d, this build needs %d, and role %q may not change it: run `postrider migrate` as the schema's owner (%s)",
			db.Config().Database, version, migrations.Version, db.Config().User, pgErr.Message)
	}
	return n, err
}

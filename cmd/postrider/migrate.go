package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/internal/schema"
)

func (a *app) migrateCommand() *cobra.Command {
	var to grantees
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Bring the schema of the database up to date",
		Long:    "Create or update the schema postrider. The role needs CREATE on the database, and to own the schema if it exists.\nSeveral may run at once: one waits for the other. With the flags it gives roles, which have to exist, what `postrider grants`\nprints, so that a set-up needs no psql.",
		Example: "  postrider migrate --database-url postgres://owner@host/shop --grant-relay postrider --grant-app shop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, s *config.Settings) error {
				n, err := admin.Migrate(ctx, db, string(s.DatabaseURL))
				if err != nil {
					return err
				}
				if err := to.grant(ctx, db); err != nil {
					return err
				}
				if n == 0 {
					a.printf("The schema is up to date (version %d).\n", schema.Version)
				} else {
					a.printf("%s applied: the schema has version %d now.\n", human.Plural(int64(n), "migration"), schema.Version)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&to.app, "grant-app", "", "role of an application, which may enqueue messages then")
	cmd.Flags().StringVar(&to.relay, "grant-relay", "", "role of a relay that may stream, which needs a superuser to grant")
	cmd.Flags().StringVar(&to.timer, "grant-relay-no-stream", "", "role of a relay that looks for messages on a timer")
	return cmd
}

// grantees are roles that get what they need with the schema.
type grantees struct{ app, relay, timer string }

func (g *grantees) grant(ctx context.Context, db *dbconn.Conn) error {
	for _, to := range []struct {
		role    string
		purpose admin.Purpose
	}{{g.app, admin.ForApplication}, {g.relay, admin.ForRelay}, {g.timer, admin.ForTimerRelay}} {
		if to.role == "" {
			continue
		}
		if err := admin.Grant(ctx, db, to.purpose, to.role); err != nil {
			return err
		}
	}
	return nil
}

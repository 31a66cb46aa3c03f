package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/internal/schema"
)

func (a *app) migrateCommand() *cobra.Command {
	var to grantees
	var status bool
	var version int
	cmd := &cobra.Command{
		Use:     "migrate [--status | --to VERSION]",
		Short:   "Bring the schema of the database up to date",
		Long:    "Create or update the schema postrider. The role needs CREATE on the database, and to own the schema if it exists.\nSeveral may run at once: one waits for the other. With the flags it gives roles, which have to exist, what `postrider grants`\nprints, so that a set-up needs no psql.\n\nThere is no way back: a schema only grows, and older relays go on beside a newer one. --status lists what is applied and what is\nmissing, and changes nothing; --to stops at a version.",
		Example: "  postrider migrate --status\n  postrider migrate --database-url postgres://owner@host/shop --grant-relay postrider --grant-app shop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, s *config.Settings) error {
				if status {
					return a.migrationStatus(ctx, db)
				}
				n, err := admin.Migrate(ctx, db, string(s.DatabaseURL), version)
				if err != nil {
					return err
				}
				if err := to.grant(ctx, db); err != nil {
					return err
				}
				return a.migrated(ctx, db, n)
			})
		},
	}
	cmd.Flags().StringVar(&to.app, "grant-app", "", "role of an application, which may enqueue messages then")
	cmd.Flags().StringVar(&to.relay, "grant-relay", "", "role of a relay that may stream, which needs a superuser to grant")
	cmd.Flags().StringVar(&to.timer, "grant-relay-no-stream", "", "role of a relay that looks for messages on a timer")
	cmd.Flags().BoolVar(&status, "status", false, "list the migrations, and which are applied")
	cmd.Flags().IntVar(&version, "to", 0, "apply those up to this version (the newest, if it is not given)")
	cmd.MarkFlagsMutuallyExclusive("status", "to")
	return a.withJSON(cmd)
}

// migrated says what has become of the schema.
func (a *app) migrated(ctx context.Context, db *dbconn.Conn, n int) error {
	current, err := admin.SchemaVersion(ctx, db)
	switch {
	case err != nil:
		return err
	case n > 0:
		a.printf("%s applied: the schema has version %d now.\n", human.Plural(int64(n), "migration"), current)
	case current > schema.Version:
		a.printf("The schema has version %d, of a newer build than this (%d): nothing is to be done.\n", current, schema.Version)
	default:
		a.printf("The schema is up to date (version %d).\n", current)
	}
	return nil
}

// migrationStatus lists what is applied.
func (a *app) migrationStatus(ctx context.Context, db *dbconn.Conn) error {
	steps, err := admin.MigrationSteps(ctx, db)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(steps)
	}
	t := newTable(">VERSION", "APPLIED", "FILES")
	for _, s := range steps {
		applied, files := "no", strings.Join(s.Files, " ")
		if s.Applied != nil {
			applied = s.Applied.UTC().Format(time.DateTime)
		}
		if len(s.Files) == 0 {
			files = "of a newer build than this"
		}
		t.add(strconv.Itoa(s.Version), applied, files)
	}
	t.print(a.out)
	return nil
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

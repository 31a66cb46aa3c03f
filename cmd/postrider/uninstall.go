package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) uninstallCommand() *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "uninstall [--yes [--force]]",
		Short: "Print the SQL that removes Postrider from the database, or run it",
		Long: `Print the SQL that removes Postrider from the database: the schema with all that is in it, the publication if it is the one that
the migrations make, and replication slots that a relay has left. With --yes it is run. A publication of the same name that is
somebody else's stays, and so do roles.

It says what would be lost. It refuses while a relay is registered, or while something would go along that is not Postrider's,
unless --force is given. It takes the schema's owner. It works on what is left of a broken installation, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if force && !yes {
				return errors.New("--force has no meaning without --yes")
			}
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, _ *config.Settings) error {
				return a.uninstall(ctx, db, yes, force)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	cmd.Flags().BoolVar(&force, "force", false, "do it whatever speaks against it")
	return cmd
}

func (a *app) uninstall(ctx context.Context, db *dbconn.Conn, yes, force bool) error {
	plan, err := admin.PlanRemoval(ctx, db)
	if err != nil {
		return err
	}
	a.printf("-- Database %q.\n", db.Config().Database)
	for _, part := range []struct {
		what  string
		lines []string
	}{{"Lost", plan.Lost}, {"Against it", plan.Against}, {"Kept", plan.Kept}} {
		for _, line := range part.lines {
			a.printf("-- %s: %s.\n", part.what, human.OneLine(line))
		}
	}
	if len(plan.SQL()) == 0 {
		a.printf("-- Nothing of Postrider is here.\n")
		return nil
	}
	a.printf("%s\n", strings.Join(plan.SQL(), "\n"))
	if !yes {
		return nil
	}
	if err := admin.Uninstall(ctx, db, plan, force); err != nil {
		return err
	}
	a.printf("-- Done.\n")
	return nil
}

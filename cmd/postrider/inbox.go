package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
)

func (a *app) inboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "What receivers need to do nothing twice: a schema for their own database",
		Long: `An inbox remembers, in a receiver's own database, which messages have had their effect, in the transaction of that effect:

    BEGIN;
    SELECT postrider_inbox.accept('5eed0123-42-1767349445678900');  -- false: it was here before
    -- if true: the effect
    COMMIT;

The id is the header Webhook-Id of a webhook, Nats-Msg-Id in NATS, ce-id anywhere. Go programs use the package inbox.`,
	}
	cmd.AddCommand(a.inboxInstallCommand(), a.inboxSQLCommand())
	return cmd
}

func (a *app) inboxInstallCommand() *cobra.Command {
	var role string
	var keep time.Duration
	cmd := &cobra.Command{
		Use:   "install [--keep DURATION] [--grant ROLE]",
		Short: "Make the schema postrider_inbox in a receiver's database, or set how long it remembers",
		Long: `Make the schema postrider_inbox in the database that --database-url names, unless it is there. The role needs CREATE on the database, and to
own the schema if it exists. It is nothing of the outbox's: it may be in the same database, or in one that has no other part of Postrider.`,
		Example: "  postrider inbox install --database-url postgres://owner@receiver/shop --keep 720h --grant receiver",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, _ *config.Settings) error {
				return a.installInbox(ctx, db, keep, cmd.Flags().Changed("keep"), role)
			})
		},
	}
	cmd.Flags().DurationVar(&keep, "keep", 0, "how long messages are remembered, such as 720h: from 1h to 87600h (336h at first)")
	cmd.Flags().StringVar(&role, "grant", "", "role of a receiver, which may accept messages then")
	return cmd
}

func (a *app) installInbox(ctx context.Context, db *dbconn.Conn, keep time.Duration, setKeep bool, role string) error {
	if err := inbox.Install(ctx, db); err != nil {
		return err
	}
	a.printf("The inbox is installed (version %d).\n", inbox.Version)
	if setKeep {
		from, err := inbox.Keep(ctx, db, keep)
		if err != nil {
			return err
		}
		a.printf("Messages that are made from %s on are remembered for %s.\n", from.UTC().Format(time.RFC3339), keep)
	}
	if role == "" {
		return nil
	}
	if _, err := db.Exec(ctx, inbox.Grants(role)); err != nil {
		return fmt.Errorf("grant to %q: %w", role, err)
	}
	a.printf("%s may accept messages.\n", role)
	return nil
}

func (a *app) inboxSQLCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:     "sql [--grant ROLE]",
		Short:   "Print the SQL that makes the schema postrider_inbox",
		Long:    "Print the SQL that makes the schema postrider_inbox, for migrations of the receiver's own. Run it once, in one transaction.",
		Example: "  postrider inbox sql --grant receiver | psql --single-transaction",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.printf("%s", inbox.Schema)
			if role != "" {
				a.printf("\n%s", inbox.Grants(role))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&role, "grant", "", "role of a receiver, which may accept messages then")
	return cmd
}

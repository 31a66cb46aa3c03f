package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
)

func (a *app) rebaseCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "rebase --yes",
		Short: "Make a copied outbox belong to this database",
		Long: `Make an outbox that came from another database, by dump and restore or by logical replication, belong to this one.
Transaction ids that were stored there mean nothing here, so a relay refuses to start on such a copy. What each
subscription has settled is worked out again; nothing is lost, and nothing that was settled is delivered again.

First stop the relays on the old database, so that they do not deliver on. Applications wait while it runs. It takes the
schema's owner.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				return a.rebase(ctx, db, yes)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

func (a *app) rebase(ctx context.Context, db *dbconn.Conn, yes bool) error {
	same, err := sameIdentity(ctx, db)
	if err != nil {
		return err
	}
	if same {
		a.printf("The outbox belongs to this database already: there is nothing to do.\n")
		return nil
	}
	if !yes {
		return errors.New("the outbox came from another database; --yes makes it belong to this one. First make sure that no relay still delivers from the old one")
	}
	var retained int64
	if err := db.QueryRow(ctx, "SELECT postrider.rebase()").Scan(&retained); err != nil {
		return err
	}
	a.printf("The outbox, with %s, belongs to this database now. `postrider status` shows where the subscriptions stand.\n", plural(retained, "message"))
	return nil
}

// sameIdentity reports whether the stored transaction ids are of this cluster and database.
func sameIdentity(ctx context.Context, db querier) (same bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT system_identifier = (SELECT system_identifier FROM pg_control_system())
		   AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())
		FROM postrider.source`).Scan(&same)
	return same, err
}

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) rebaseCommand() *cobra.Command {
	var yes, newID bool
	cmd := &cobra.Command{
		Use:   "rebase --yes [--new-source-id]",
		Short: "Make a copied outbox belong to this database",
		Long: `Make an outbox that came from another database or cluster (by dump and restore, logical replication or pg_upgrade) belong to
this one. Transaction ids that were stored there mean nothing here, so a relay refuses to start on such a copy. What each
subscription has settled is worked out again; nothing is lost, and nothing that was settled is delivered again.

First stop the relays on the old database, so that they do not deliver on. Applications wait while it runs. It takes the
schema's owner.

The source id is kept: a message keeps the id that it has on the wire, so receivers know what the old database has sent
already. A copy that goes on beside its original, such as a staging system, needs --new-source-id: otherwise two
different messages could carry one id, and receivers of both would drop one of them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				return a.rebase(ctx, db, yes, newID)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	cmd.Flags().BoolVar(&newID, "new-source-id", false, "give messages new ids on the wire: for a copy that runs beside its original")
	return cmd
}

func (a *app) rebase(ctx context.Context, db *dbconn.Conn, yes, newID bool) error {
	same, err := admin.SameIdentity(ctx, db)
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
	retained, err := admin.Rebase(ctx, db, newID)
	if err != nil {
		return err
	}
	a.printf("The outbox, with %s, belongs to this database now. `postrider status` shows where the subscriptions stand.\n", human.Plural(retained, "message"))
	if newID {
		a.printf("Its source id is new: messages carry ids on the wire that no receiver has seen.\n")
	} else {
		a.printf("Its source id is kept: repeats of what the old database has sent carry the same ids.\n")
	}
	return nil
}

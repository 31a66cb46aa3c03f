package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

func (a *app) subsApplyCommand() *cobra.Command {
	var how admin.ApplyOptions
	var notes []string
	cmd := a.withJSON(&cobra.Command{
		Use:   "apply FILE",
		Short: "Create and change subscriptions as a YAML file says",
		Long: `Create the subscriptions of a YAML file, and change those that exist in place where topics, sink or settings differ. Cursors
and parked messages stay. Subscriptions that the file does not name are left alone, unless --prune removes them: those that have the
same --scope, or none if none is given, so that deployments with scopes of their own may each prune theirs. --dry-run shows what
would change, field by field, and changes nothing.

  subscriptions:
    - name: billing
      topics: [orders.>, payments.*]
      sink: https://billing.internal/hook?token=${BILLING_TOKEN}
      start: earliest          # when it is created; the default is now
      max_attempts: 10

` + settingsHelp() + `
In a sink, ${NAME} stands for the environment variable NAME; the database holds the value.`,
		Example: "  postrider subs apply subscriptions.yaml --prune --dry-run\n  postrider subs apply subscriptions.yaml --scope shop --prune --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			specs, err := config.ReadFile(args[0], destination.CheckElsewhere)
			if err != nil {
				return err
			}
			s, err := config.Load(a.databaseURL)
			if err != nil {
				return err
			}
			notes = s.SecretsNotes(specs)
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				changes, err := admin.Apply(ctx, db, specs, how)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(changes)
				}
				a.printChanges(changes, notes)
				if how.DryRun {
					a.printf("\nThis was a dry run: nothing was changed.\n")
				}
				return nil
			})
		},
	})
	cmd.Flags().BoolVar(&how.Prune, "prune", false, "remove the subscriptions that the file does not name and that have the same scope, with what they have parked; needs --yes")
	scopeFlag(cmd, &how)
	cmd.Flags().BoolVar(&how.Yes, "yes", false, "really remove them")
	cmd.Flags().BoolVar(&how.DryRun, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

// scopeFlag says whose file it is.
func scopeFlag(cmd *cobra.Command, how *admin.ApplyOptions) {
	cmd.Flags().StringVar(&how.Scope, "scope", "", "the deployment that the file is of: what the file names gets this scope, and --prune keeps to it (default none)")
}

func (a *app) printChanges(changes []admin.Change, notes []string) {
	list := newTable("SUBSCRIPTION", "CHANGE")
	for _, c := range changes {
		list.add(c.Name, c.Describe())
		for _, d := range c.Differences {
			list.add("", "  "+d.String())
		}
	}
	list.print(a.out)
	for _, note := range notes {
		a.printf("\nnote: %s\n", note)
	}
}

// settingsHelp lists the settings of a subscription with their meanings.
func settingsHelp() string {
	var b strings.Builder
	b.WriteString("Settings:\n\n")
	for _, f := range subscription.Fields {
		fmt.Fprintf(&b, "  %-16s  %s\n", f.Name, f.Help)
	}
	return b.String()
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
)

func (a *app) schedulesApplyCommand() *cobra.Command {
	var how admin.ApplyOptions
	cmd := a.withJSON(&cobra.Command{
		Use:   "apply FILE",
		Short: "Create and change schedules as a YAML file says",
		Long: `Create the schedules of a YAML file, and change those that exist where they differ. Schedules that the file does not name are
left alone, so that several deployments may each apply their own. --prune removes them: those that have the same --scope, or none if
none is given, so that deployments with scopes of their own may each prune theirs. Pauses stay. --dry-run shows what would change, and
changes nothing.

  schedules:
    - name: nightly-report
      cron: 30 2 * * *          # minute, hour, day of month, month, day of week
      zone: Europe/Berlin       # the default is UTC
      topic: reports.nightly
      key: reports              # the default is none
      payload: {format: pdf}    # the default is {}
      headers: {team: finance}
      priority: 3               # from 1 (first) to 4 (last); the default is 2
      missed: last              # after an outage: skip, last (the default), or all(n)`,
		Example: "  postrider schedules apply schedules.yaml --dry-run\n  postrider schedules apply schedules.yaml --scope shop --prune --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			specs, err := config.ReadSchedules(args[0])
			if err != nil {
				return err
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				changes, err := admin.ApplySchedules(ctx, db, specs, how)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(changes)
				}
				list := newTable("SCHEDULE", "CHANGE")
				for _, c := range changes {
					list.add(c.Name, c.Action)
					for _, d := range c.Differences {
						list.add("", "  "+d.String())
					}
				}
				list.print(a.out)
				if how.DryRun {
					a.printf("\nThis was a dry run: nothing was changed.\n")
				}
				return nil
			})
		},
	})
	cmd.Flags().BoolVar(&how.Prune, "prune", false, "remove the schedules that the file does not name and that have the same scope; needs --yes")
	scopeFlag(cmd, &how)
	cmd.Flags().BoolVar(&how.Yes, "yes", false, "really remove them")
	cmd.Flags().BoolVar(&how.DryRun, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

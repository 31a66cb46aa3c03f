package main

import (
	"cmp"
	"context"
	"time"
	_ "time/tzdata" // where the system has no zones

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) schedulesCommand() *cobra.Command {
	var reason string
	pause := a.scheduleCommand("pause NAME", "Fire a schedule no more until it is resumed", "paused", func(ctx context.Context, db *dbconn.Conn, name string) error {
		return admin.PauseSchedule(ctx, db, name, reason)
	})
	pause.Flags().StringVar(&reason, "reason", "", "shown in list and status (default: the one it has if it is paused already)")
	return group("schedules", "List and change schedules: messages at the times of a cron expression",
		a.schedulesListCommand(), a.schedulesApplyCommand(), pause,
		a.scheduleCommand("resume NAME", "Let a paused schedule go on; what fell into the pause is not made up for", "active", admin.ResumeSchedule),
		a.schedulesRunCommand(),
		a.scheduleCommand("remove NAME", "Remove a schedule; messages that it has fired stay", "removed", admin.RemoveSchedule))
}

// scheduleCommand makes a command that changes one schedule and says what it is now.
func (a *app) scheduleCommand(use, short, now string, change func(ctx context.Context, db *dbconn.Conn, name string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				if err := change(ctx, db, args[0]); err != nil {
					return err
				}
				a.printf("Schedule %q is %s.\n", args[0], now)
				return nil
			})
		},
	}
}

func (a *app) schedulesRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run NAME",
		Short: "Put a schedule's message into the outbox now; its next run stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				id, err := admin.RunSchedule(ctx, db, args[0])
				if err != nil {
					return err
				}
				a.printf("Schedule %q is run: message %d.\n", args[0], id)
				return nil
			})
		},
	}
}

func (a *app) schedulesListCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "list",
		Short: "List the schedules with their next and last runs",
		Long: `List the schedules with their next and last runs, in their own zones:

  active   it is fired when it is due
  late     it has been due for a minute or longer, and no relay has fired it
  paused   it is not fired, and what falls into the pause is not made up for
  trouble  it cannot be fired, and why`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				list, err := admin.Schedules(ctx, db)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(list)
				}
				if len(list) == 0 {
					a.printf("There are no schedules.\n")
					return nil
				}
				a.printSchedules(list)
				return nil
			})
		},
	})
}

func (a *app) printSchedules(list []admin.Schedule) {
	t := newTable("SCHEDULE", "STATE", "CRON", "ZONE", "TOPIC", "NEXT RUN", "LAST RUN", "TROUBLE")
	for _, s := range list {
		t.add(s.Name, s.State, s.Cron, s.Zone, s.Topic, inZone(s.NextRun, s.Zone), inZone(s.LastRun, s.Zone), human.Clip(whyNot(s), 100))
	}
	t.print(a.out)
}

// whyNot says why a schedule is not fired, when it is not.
func whyNot(s admin.Schedule) string {
	if s.State == admin.ScheduleLate {
		return "due for " + human.Duration(human.Seconds(s.LateSeconds)) + ": no relay has fired it"
	}
	return cmp.Or(s.Trouble, s.PausedReason)
}

// inZone writes a time as the schedule's wall clock shows it.
func inZone(at *time.Time, zone string) string {
	if at == nil {
		return "-"
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		location = time.UTC
	}
	return at.In(location).Format("2006-01-02 15:04:05 -0700")
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

func (a *app) subsPauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Stop the deliveries of a subscription",
		Long:  "Stop the deliveries of a subscription. Its messages are kept, beyond the retention, until it goes on or is removed.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSub(cmd.Context(), args[0], "paused", func(ctx context.Context, db *dbconn.Conn, name string) error {
				return admin.Pause(ctx, db, name, reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "shown in status (default: the one it has if it is paused already)")
	return cmd
}

func (a *app) subsResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "Let the deliveries of a paused subscription go on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSub(cmd.Context(), args[0], "active", admin.Resume)
		},
	}
}

func (a *app) subsRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a subscription with its cursor and its parked messages",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSub(cmd.Context(), args[0], "removed", admin.Remove)
		},
	}
}

func (a *app) subsReplayCommand() *cobra.Command {
	var start string
	cmd := &cobra.Command{
		Use:   "replay NAME --start earliest|now|TIME|DURATION",
		Short: "Set a subscription back, or forward, in the log",
		Long: "Set a subscription's cursor to where it shall go on: earliest (all that is retained), now (skips what is pending), a time, or so\n" +
			"long ago as a duration says. What is parked stays parked: dead letters are redriven with `postrider parked redrive`.",
		Example: "  postrider subs replay billing --start earliest\n" +
			"  postrider subs replay billing --start 1h30m\n" +
			"  postrider subs replay billing --start 2026-01-31T12:00:00Z",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if start == "" {
				return errors.New("--start is missing: earliest, now, a time such as 2026-01-31T12:00:00Z, or a duration such as 1h")
			}
			if err := admin.CheckReplay(start); err != nil {
				return fmt.Errorf("--%w", err)
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				done, err := admin.Replay(ctx, db, args[0], start)
				if err != nil {
					return err
				}
				a.printf("Subscription %q goes on from %s.\n", args[0], done.Start)
				if done.Note != "" {
					a.printf("Note: %s\n", done.Note)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&start, "start", "", "earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h")
	return cmd
}

// changeSub changes one subscription and says what it is now.
func (a *app) changeSub(ctx context.Context, name, now string, change func(ctx context.Context, db *dbconn.Conn, name string) error) error {
	return a.withDB(ctx, func(ctx context.Context, db *dbconn.Conn) error {
		if err := change(ctx, db, name); err != nil {
			return err
		}
		a.printf("Subscription %q is %s.\n", name, now)
		return nil
	})
}

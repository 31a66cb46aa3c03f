package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) parkedRedriveCommand() *cobra.Command {
	return a.parkedChangeCommand(admin.Redrive, "will be tried again, from the first attempt", &cobra.Command{
		Use:   "redrive SUBSCRIPTION [ID…|--all]",
		Short: "Try dead letters again",
		Long:  "Try parked messages again from their first attempt: with --all the dead ones, else those with the given ids, which may\nalso be retrying, leased, failed or discarded. Callbacks for a leased one's attempt come too late then.",
	})
}

func (a *app) parkedDiscardCommand() *cobra.Command {
	return a.parkedChangeCommand(admin.Discard, "discarded", &cobra.Command{
		Use:   "discard SUBSCRIPTION [ID…|--all]",
		Short: "Give dead letters up for good",
		Long:  "Give parked messages up for good: with --all the dead ones, else those with the given ids, whatever their state. Their rows stay.",
	})
}

// parkedChange changes messages that are parked, as admin.Redrive does.
type parkedChange func(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error)

func (a *app) parkedChangeCommand(change parkedChange, done string, cmd *cobra.Command) *cobra.Command {
	var all bool
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 1) {
			return errors.New("give either ids or --all (`postrider parked list` shows the ids)")
		}
		ids, err := parseIDs(args[1:])
		if err != nil {
			return err
		}
		return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
			name := args[0]
			n, refused, err := change(ctx, db, name, ids)
			switch {
			case err != nil:
				return err
			case n > 0:
				a.printf("%s of subscription %q %s.\n", human.Plural(n, "message"), name, done)
			case ids == nil:
				a.printf("Subscription %q has no dead letters.\n", name)
			}
			return refused
		})
	}
	cmd.Flags().BoolVar(&all, "all", false, "all dead letters of the subscription")
	return cmd
}

func parseIDs(texts []string) ([]int64, error) {
	return parseNumbers(texts, "id", "postrider parked list")
}

// parseNumbers reads numbers, which a command shows.
func parseNumbers(texts []string, name, shows string) ([]int64, error) {
	var ids []int64
	for _, text := range texts {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s %q: must be a number, as `%s` shows it", name, text, shows)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

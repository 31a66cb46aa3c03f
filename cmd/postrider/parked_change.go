package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) parkedRedriveCommand() *cobra.Command {
	return a.parkedChangeCommand(parkedChange{
		function: "redrive",
		done:     "will be tried again, from the first attempt",
		from:     []string{"dead", "retrying", "leased", "failed", "discarded"},
	}, &cobra.Command{
		Use:   "redrive SUBSCRIPTION [ID…|--all]",
		Short: "Try dead letters again",
		Long:  "Try parked messages again from their first attempt: with --all the dead ones, else those with the given ids, which may\nalso be retrying, leased, failed or discarded. Callbacks for a leased one's attempt come too late then.",
	})
}

func (a *app) parkedDiscardCommand() *cobra.Command {
	return a.parkedChangeCommand(parkedChange{
		function: "discard",
		done:     "discarded",
		from:     []string{"dead", "retrying", "held", "scheduled", "leased", "failed"},
	}, &cobra.Command{
		Use:   "discard SUBSCRIPTION [ID…|--all]",
		Short: "Give dead letters up for good",
		Long:  "Give parked messages up for good: with --all the dead ones, else those with the given ids, whatever their state. Their rows stay.",
	})
}

// parkedChange is what redrive and discard have in common.
type parkedChange struct {
	function, done string
	from           []string // the states that it changes when it is given ids
}

func (a *app) parkedChangeCommand(c parkedChange, cmd *cobra.Command) *cobra.Command {
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
			return a.changeParked(ctx, db, c, args[0], ids)
		})
	}
	cmd.Flags().BoolVar(&all, "all", false, "all dead letters of the subscription")
	return cmd
}

func (a *app) changeParked(ctx context.Context, db *dbconn.Conn, c parkedChange, name string, ids []int64) error {
	if err := requireSubscription(ctx, db, name); err != nil {
		return err
	}
	var n int64
	var refused error
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var err error
		if refused, err = c.refused(ctx, tx, name, ids); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT postrider."+c.function+"($1, $2)", name, ids).Scan(&n)
	})
	if err != nil {
		return err
	}
	if n == 0 && ids == nil {
		a.printf("Subscription %q has no dead letters.\n", name)
	} else if n > 0 {
		a.printf("%s of subscription %q %s.\n", human.Plural(n, "message"), name, c.done)
	}
	return refused
}

// refused says which of the ids cannot be changed, and why. The subscription's row is locked first, as every command does.
func (c parkedChange) refused(ctx context.Context, tx pgx.Tx, name string, ids []int64) (refused, err error) {
	if _, err := tx.Exec(ctx, "SELECT FROM postrider.subscriptions WHERE name = $1 FOR UPDATE", name); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, "SELECT id, state FROM postrider.parked WHERE subscription = $1 AND id = ANY ($2) FOR UPDATE", name, ids)
	if err != nil {
		return nil, err
	}
	states := map[int64]string{}
	var id int64
	var state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		if !slices.Contains(c.from, states[id]) { // of an id that came twice, one that can be changed will do
			states[id] = state
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		switch state, ok := states[id]; {
		case !ok:
			errs = append(errs, fmt.Errorf("message %d is not parked", id))
		case !slices.Contains(c.from, state):
			errs = append(errs, fmt.Errorf("message %d is %s: %s does nothing to it", id, state, c.function))
		}
	}
	return errors.Join(errs...), nil
}

func parseIDs(texts []string) ([]int64, error) {
	var ids []int64
	for _, text := range texts {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("id %q: must be a number, as `postrider parked list` shows it", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
)

func (a *app) subsPauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Stop the deliveries of a subscription",
		Long:  "Stop the deliveries of a subscription. Its messages are kept, beyond the retention, until it goes on or is removed.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSub(cmd.Context(), args[0], "paused", "SELECT postrider.pause($1, nullif($2, ''))", args[0], forPeople(reason))
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
			return a.changeSub(cmd.Context(), args[0], "active", "SELECT postrider.resume($1)", args[0])
		},
	}
}

func (a *app) subsRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a subscription with its cursor and its parked messages",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSub(cmd.Context(), args[0], "removed", "SELECT postrider.unsubscribe($1)", args[0])
		},
	}
}

func (a *app) subsReplayCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "replay NAME --from earliest|now|TIME|DURATION",
		Short: "Set a subscription back, or forward, in the log",
		Long: "Set a subscription's cursor to where it shall go on: earliest (all that is retained), now (skips what is pending), a time, or so\n" +
			"long ago as a duration says. What is parked stays parked: dead letters are redriven with `postrider parked redrive`.",
		Example: "  postrider subs replay billing --from earliest\n" +
			"  postrider subs replay billing --from 1h30m\n" +
			"  postrider subs replay billing --from 2026-01-31T12:00:00Z",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" {
				return errors.New("--from is missing: earliest, now, a time such as 2026-01-31T12:00:00Z, or a duration such as 1h")
			}
			since, isDuration := back(from)
			if err := checkStart(from); err != nil && !isDuration {
				return fmt.Errorf("--from %q: must be earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h", from)
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				if isDuration {
					var err error
					if from, err = timeAgo(ctx, db, since); err != nil {
						return err
					}
				}
				return a.replay(ctx, db, args[0], from)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h")
	return cmd
}

// back reads how long ago something was: 1h, and days, which people count in: 2d, 1d12h.
func back(text string) (time.Duration, bool) {
	days, rest, ok := strings.Cut(text, "d")
	n, err := strconv.ParseUint(days, 10, 16)
	if !ok || err != nil {
		n, rest = 0, text
	} else if rest == "" {
		rest = "0s"
	}
	d, err := time.ParseDuration(rest)
	return time.Duration(n)*24*time.Hour + d, err == nil && d >= 0
}

// timeAgo goes by the server's clock, as messages do.
func timeAgo(ctx context.Context, db admin.Querier, since time.Duration) (string, error) {
	var at time.Time
	err := db.QueryRow(ctx, "SELECT clock_timestamp() - $1::bigint * interval '1 microsecond'", since.Microseconds()).Scan(&at)
	return at.UTC().Format(time.RFC3339Nano), err
}

func (a *app) replay(ctx context.Context, db *dbconn.Conn, name, from string) error {
	var sink string
	err := db.QueryRow(ctx, "SELECT sink FROM postrider.subscriptions WHERE name = $1", name).Scan(&sink)
	if errors.Is(err, pgx.ErrNoRows) {
		return admin.NoSubscription(ctx, db, name)
	}
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, "SELECT postrider.replay($1, $2)", name, from); err != nil {
		return err
	}
	a.printf("Subscription %q goes on from %s.\n", name, from)
	if destination.IsNATS(sink) && from != "now" {
		a.printf("Note: JetStream drops what it has stored within its duplicate window (2 minutes unless the stream says otherwise), so messages\n" +
			"delivered that recently are not stored again. Replay them later, or make the window shorter first.\n")
	}
	return nil
}

// forPeople is a text of which the database may keep what it can.
type forPeople string

// changeSub runs a function of the schema that answers whether there is such a subscription.
func (a *app) changeSub(ctx context.Context, name, now, sql string, args ...any) error {
	return a.withDB(ctx, func(ctx context.Context, db *dbconn.Conn) error {
		for i := range args {
			if text, ok := args[i].(forPeople); ok {
				args[i] = db.Encoding().Storable(string(text))
			}
		}
		var found bool
		if err := db.QueryRow(ctx, sql, args...).Scan(&found); err != nil {
			return err
		}
		if !found {
			return admin.NoSubscription(ctx, db, name)
		}
		a.printf("Subscription %q is %s.\n", name, now)
		return nil
	})
}

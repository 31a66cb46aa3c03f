package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

var parkedStates = []string{"retrying", "held", "scheduled", "leased", "failed", "completed", "dead", "discarded"}

func (a *app) parkedCommand() *cobra.Command {
	return group("parked", "List, redrive and discard messages that did not simply work",
		a.parkedListCommand(), a.parkedShowCommand(), a.parkedRedriveCommand(), a.parkedDiscardCommand())
}

func (a *app) parkedListCommand() *cobra.Command {
	var states []string
	var limit int
	cmd := a.withJSON(&cobra.Command{
		Use:   "list [SUBSCRIPTION]",
		Short: "List parked messages",
		Long: `List the messages that are not simply delivered or pending:

  retrying   failed, and is tried again when due
  held       waits behind another message of its key
  scheduled  is delivered when due
  leased     was taken by its receiver, which will call back; is delivered again when due, the end of its lease
  failed     the receiver called back that it failed; is about to become retrying or dead
  completed  the receiver called back that it is done; is about to leave this list
  dead       was given up: redrive or discard it
  discarded  was given up for good (listed only with --state discarded)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range states {
				if !slices.Contains(parkedStates, s) {
					return fmt.Errorf("state %q: must be one of %s", s, strings.Join(parkedStates, ", "))
				}
			}
			if limit < 1 {
				return fmt.Errorf("limit %d: must be at least 1", limit)
			}
			name := strings.Join(args, "")
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				return a.parkedList(ctx, db, name, states, limit)
			})
		},
	})
	cmd.Flags().StringSliceVar(&states, "state", parkedStates[:len(parkedStates)-1], "states to list, separated by commas")
	cmd.Flags().IntVar(&limit, "limit", 50, "most messages to list")
	return cmd
}

// parkedView is a parked message in a listing; the keys are stable.
type parkedView struct {
	Subscription string     `json:"subscription"`
	ID           int64      `json:"id"`
	State        string     `json:"state"`
	Attempts     int        `json:"attempts"`
	Due          *time.Time `json:"due"`
	Topic        string     `json:"topic"`
	Key          *string    `json:"key"`
	Reason       string     `json:"reason"`
	ParkedAt     time.Time  `json:"parked_at"`
	CreatedAt    time.Time  `json:"created_at"`
}

// parkedColumns are the columns of a parkedView, in order. Of times, what no JSON holds must not fail the list.
var parkedColumns = fmt.Sprintf("subscription, id, state, attempts, %s, topic, key, coalesce(reason, ''), %s, %s",
	writable("due"), writable("parked_at"), writable("created_at"))

// writable keeps a time within the years that RFC 3339 has; PostgreSQL has more, and two infinities.
func writable(column string) string {
	return fmt.Sprintf("CASE WHEN %[1]s > '9999-12-31' THEN '9999-12-31 00:00:00Z' WHEN %[1]s < '0001-01-02' THEN '0001-01-02 00:00:00Z' ELSE %[1]s END", column)
}

func (a *app) parkedList(ctx context.Context, db *dbconn.Conn, name string, states []string, limit int) error {
	if name != "" {
		if err := requireSubscription(ctx, db, name); err != nil {
			return err
		}
	}
	const which = " FROM postrider.parked WHERE ($1 = '' OR subscription = $1) AND state = ANY ($2)"
	var now time.Time
	var total int64
	if err := db.QueryRow(ctx, "SELECT clock_timestamp(), count(*)"+which, name, states).Scan(&now, &total); err != nil {
		return err
	}
	rows, err := db.Query(ctx, "SELECT "+parkedColumns+which+" ORDER BY subscription, id LIMIT $3", name, states, limit)
	if err != nil {
		return err
	}
	views, err := pgx.AppendRows([]parkedView{}, rows, pgx.RowToStructByPos[parkedView])
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(views)
	}
	a.printParked(views, now)
	if more := total - int64(len(views)); more > 0 {
		a.printf("… and %s more: see --limit.\n", human.Number(more))
	}
	return nil
}

func (a *app) printParked(views []parkedView, now time.Time) {
	if len(views) == 0 {
		a.printf("Nothing is parked.\n")
		return
	}
	list := newTable("SUBSCRIPTION", ">ID", "STATE", ">ATTEMPTS", "DUE", "TOPIC", "KEY", "PARKED", "REASON")
	for _, v := range views {
		due := "-"
		if v.Due != nil && v.State != "dead" && v.State != "discarded" {
			due = human.Ago(now, *v.Due)
		}
		key := "-"
		if v.Key != nil {
			key = *v.Key
		}
		list.add(v.Subscription, fmt.Sprint(v.ID), v.State, human.Number(int64(v.Attempts)), due, v.Topic, human.Clip(key, 32), human.Ago(now, v.ParkedAt), human.Clip(cmp.Or(v.Reason, "-"), 80))
	}
	list.print(a.out)
}

func requireSubscription(ctx context.Context, db admin.Querier, name string) error {
	var found bool
	if err := db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM postrider.subscriptions WHERE name = $1)", name).Scan(&found); err != nil {
		return err
	}
	if !found {
		return admin.NoSubscription(ctx, db, name)
	}
	return nil
}

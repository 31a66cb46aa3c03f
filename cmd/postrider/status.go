package main

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
)

func (a *app) statusCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "status",
		Short: "Show where each subscription stands, and the relays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				var report *statusReport
				err := readOnly(ctx, db, func(tx pgx.Tx) (err error) {
					report, err = readStatus(ctx, tx)
					return err
				})
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(report)
				}
				a.printStatus(report)
				return nil
			})
		},
	})
}

// statusReport is what status prints; the keys are stable.
type statusReport struct {
	Now           time.Time            `json:"now"`
	Subscriptions []subscriptionStatus `json:"subscriptions"`
	Relays        []relayStatus        `json:"relays"`
}

// subscriptionStatus is a row of the view subscription_status.
type subscriptionStatus struct {
	Name         string    `json:"name"`
	State        string    `json:"state"`
	PausedReason string    `json:"paused_reason"`
	Trouble      string    `json:"trouble"`
	Owner        string    `json:"owner"`
	LagMessages  int64     `json:"lag_messages"`
	LagSeconds   float64   `json:"lag_seconds"`
	Retrying     int64     `json:"retrying"`
	Held         int64     `json:"held"`
	Scheduled    int64     `json:"scheduled"`
	Accepted     int64     `json:"accepted"`
	Dead         int64     `json:"dead"`
	Discarded    int64     `json:"discarded"`
	SegmentsHeld int64     `json:"segments_held"`
	SavedAt      time.Time `json:"saved_at"`
}

// relayStatus is a relay that is registered, alive or not.
type relayStatus struct {
	Name          string    `json:"name"`
	Version       string    `json:"version"`
	Incarnation   string    `json:"incarnation"`
	StartedAt     time.Time `json:"started_at"`
	Subscriptions int64     `json:"subscriptions"`
	// Unable says by subscription what this relay cannot deliver, for something that it lacks.
	Unable map[string]unableStatus `json:"unable"`
}

func readStatus(ctx context.Context, db querier) (*statusReport, error) {
	report := statusReport{Subscriptions: []subscriptionStatus{}, Relays: []relayStatus{}}
	if err := db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&report.Now); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, `
		SELECT name, state, coalesce(paused_reason, ''), coalesce(trouble, ''), coalesce(owner, ''), lag_messages, lag_seconds,
		       retrying, held, scheduled, accepted, dead, discarded, segments_held, saved_at
		FROM postrider.subscription_status ORDER BY name`)
	if err != nil {
		return nil, err
	}
	if report.Subscriptions, err = pgx.AppendRows(report.Subscriptions, rows, pgx.RowToStructByPos[subscriptionStatus]); err != nil {
		return nil, err
	}
	rows, err = db.Query(ctx, `
		SELECT r.name, r.version, r.incarnation::text, r.started_at, (SELECT count(*) FROM postrider.cursors c WHERE c.owner = r.incarnation), r.unable
		FROM postrider.relays r ORDER BY r.started_at, r.incarnation`)
	if err != nil {
		return nil, err
	}
	if report.Relays, err = pgx.AppendRows(report.Relays, rows, pgx.RowToStructByPos[relayStatus]); err != nil {
		return nil, err
	}
	report.explainStranded()
	return &report, nil
}

func (a *app) printStatus(r *statusReport) {
	if len(r.Subscriptions) == 0 {
		a.printf("There are no subscriptions: messages are kept for the retention and delivered to nobody.\n")
	} else {
		list := newTable("SUBSCRIPTION", "STATE", "OWNER", ">LAG", ">LAG TIME", ">RETRY", ">HELD", ">SCHEDULED", ">ACCEPTED", ">DEAD", ">SEGMENTS", "TROUBLE")
		for _, s := range r.Subscriptions {
			list.add(s.Name, s.State, cmp.Or(s.Owner, "-"), number(s.LagMessages), human(seconds(s.LagSeconds)),
				number(s.Retrying), number(s.Held), number(s.Scheduled), number(s.Accepted), number(s.Dead), number(s.SegmentsHeld), clip(s.why(), 100))
		}
		list.print(a.out)
	}
	a.printf("\n")
	if len(r.Relays) == 0 {
		a.printf("No relay is registered: nothing is delivered until `postrider run` runs.\n")
		return
	}
	list := newTable("RELAY", "VERSION", "STARTED", ">SUBSCRIPTIONS")
	for _, relay := range r.Relays {
		list.add(relay.Name, relay.Version, ago(r.Now, relay.StartedAt), number(relay.Subscriptions))
	}
	list.print(a.out)
	a.printUnable(r)
}

// why says why deliveries stand still, when they do.
func (s *subscriptionStatus) why() string {
	if s.State == "paused" {
		return cmp.Or(s.PausedReason, s.Trouble)
	}
	return s.Trouble
}

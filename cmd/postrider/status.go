package main

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) statusCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "status",
		Short: "Show where each subscription stands, and the relays",
		Long: `Show where each subscription stands, and the relays:

  LAG, LAG TIME    messages neither delivered nor parked, and the age of the oldest
  RETRYING … DEAD  parked messages by state: ` + "`postrider parked list`" + ` explains and lists them
  SEGMENTS         parts of the outbox that cannot be emptied because of this subscription
  TROUBLE          why deliveries stand still, or are paused
  LAST SEEN        when a relay last asked the database for something. One that is gone was killed: another takes over`,
		Args: cobra.NoArgs,
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
	LagMore      bool      `json:"lag_more"` // than could be counted in time
	LagSeconds   float64   `json:"lag_seconds"`
	Retrying     int64     `json:"retrying"`
	Held         int64     `json:"held"`
	Scheduled    int64     `json:"scheduled"`
	Leased       int64     `json:"leased"`
	Dead         int64     `json:"dead"`
	Discarded    int64     `json:"discarded"`
	SegmentsHeld int64     `json:"segments_held"`
	SavedAt      time.Time `json:"saved_at"`
	// Contested says which relays were started with different settings for it.
	Contested string `json:"contested"`
	owner     string // with its incarnation, where relays share a name
}

func readStatus(ctx context.Context, db querier) (*statusReport, error) {
	report := statusReport{Subscriptions: []subscriptionStatus{}, Relays: []relayStatus{}}
	if err := db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&report.Now); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, `
		SELECT name, state, coalesce(paused_reason, ''), coalesce(trouble, ''), coalesce(owner, ''), lag_messages, lag_more, lag_seconds,
		       retrying, held, scheduled, leased, dead, discarded, segments_held, saved_at
		FROM postrider.subscription_status ORDER BY name`)
	if err != nil {
		return nil, err
	}
	report.Subscriptions, err = pgx.AppendRows(report.Subscriptions, rows, func(row pgx.CollectableRow) (s subscriptionStatus, err error) {
		return s, row.Scan(&s.Name, &s.State, &s.PausedReason, &s.Trouble, &s.Owner, &s.LagMessages, &s.LagMore, &s.LagSeconds, &s.Retrying, &s.Held,
			&s.Scheduled, &s.Leased, &s.Dead, &s.Discarded, &s.SegmentsHeld, &s.SavedAt)
	})
	if err != nil {
		return nil, err
	}
	if report.Relays, err = readRelays(ctx, db); err != nil {
		return nil, err
	}
	report.explainStranded()
	return &report, report.nameOwners(ctx, db)
}

// nameOwners tells relays of one name apart, and says which subscriptions relays fight over.
func (r *statusReport) nameOwners(ctx context.Context, db querier) error {
	owners := map[string]string{}
	title := titles(r.Relays)
	rows, err := db.Query(ctx, "SELECT subscription, owner::text FROM postrider.cursors WHERE owner IS NOT NULL")
	if err != nil {
		return err
	}
	var name, owner string
	_, err = pgx.ForEachRow(rows, []any{&name, &owner}, func() error {
		owners[name] = title[owner]
		return nil
	})
	fights := contested(r.Relays, r.Now)
	for i := range r.Subscriptions {
		s := &r.Subscriptions[i]
		s.owner, s.Contested = cmp.Or(owners[s.Name], s.Owner), fights[s.Name]
	}
	return err
}

func (a *app) printStatus(r *statusReport) {
	if len(r.Subscriptions) == 0 {
		a.printf("There are no subscriptions: messages are kept for the retention and delivered to nobody.\n")
	} else {
		list := newTable("SUBSCRIPTION", "STATE", "OWNER", ">LAG", ">LAG TIME", ">RETRYING", ">HELD", ">SCHEDULED", ">LEASED", ">DEAD", ">SEGMENTS", "TROUBLE")
		for _, s := range r.Subscriptions {
			list.add(s.Name, s.State, cmp.Or(s.owner, "-"), s.lag(), human.Duration(human.Seconds(s.LagSeconds)),
				human.Number(s.Retrying), human.Number(s.Held), human.Number(s.Scheduled), human.Number(s.Leased), human.Number(s.Dead), human.Number(s.SegmentsHeld), human.Clip(s.why(), 100))
		}
		list.print(a.out)
	}
	a.printf("\n")
	if len(r.Relays) == 0 {
		a.printf("No relay is registered: nothing is delivered until `postrider run` runs.\n")
		return
	}
	list, title := newTable("RELAY", "VERSION", "STARTED", ">SUBSCRIPTIONS", "LAST SEEN"), titles(r.Relays)
	for _, relay := range r.Relays {
		list.add(title[relay.Incarnation], relay.Version, human.Ago(r.Now, relay.StartedAt), human.Number(relay.Subscriptions), relay.seen(r.Now))
	}
	list.print(a.out)
	a.printUnable(r)
}

// lag is how many messages wait, "10,000+" if there are more than could be counted in time.
func (s *subscriptionStatus) lag() string {
	if s.LagMore {
		return human.Number(s.LagMessages) + "+"
	}
	return human.Number(s.LagMessages)
}

// why says why deliveries stand still, when they do.
func (s *subscriptionStatus) why() string {
	if s.State == "paused" {
		return cmp.Or(s.PausedReason, s.Trouble, s.Contested)
	}
	return cmp.Or(s.Trouble, s.Contested)
}

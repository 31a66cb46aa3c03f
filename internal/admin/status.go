package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
)

// StatusReport is what status prints; the keys are stable.
type StatusReport struct {
	Now           time.Time            `json:"now"`
	Subscriptions []SubscriptionStatus `json:"subscriptions"`
	Relays        []RelayStatus        `json:"relays"`
	// Schedules are those that are not simply active.
	Schedules []Schedule `json:"schedules"`
	// Operations are those that are not finished, and those that failed within a day; the first hundred.
	Operations []Operation `json:"operations"`
}

// SubscriptionStatus is a row of the view subscription_status.
type SubscriptionStatus struct {
	Name         string  `json:"name"`
	Sink         string  `json:"sink"` // without secrets
	State        string  `json:"state"`
	PausedReason string  `json:"paused_reason"`
	Trouble      string  `json:"trouble"`
	Owner        string  `json:"owner"`
	LagMessages  int64   `json:"lag_messages"`
	LagMore      bool    `json:"lag_more"` // than could be counted in time
	LagSeconds   float64 `json:"lag_seconds"`
	ParkedCounts
	SegmentsHeld int64     `json:"segments_held"`
	SavedAt      time.Time `json:"saved_at"`
	// Contested says which relays were started with different settings for it.
	Contested string `json:"contested"`
	// OwnerTitle is the owner, with its incarnation where relays share a name.
	OwnerTitle string `json:"-"`
}

// ParkedCounts are how many messages of a subscription are parked, by state.
type ParkedCounts struct {
	Retrying  int64 `json:"retrying"`
	Held      int64 `json:"held"`
	Scheduled int64 `json:"scheduled"`
	Leased    int64 `json:"leased"`
	Dead      int64 `json:"dead"`
	Discarded int64 `json:"discarded"`
	// ParkedMore says that there may be more: counts end at some number.
	ParkedMore bool `json:"parked_more"`
}

// Status reads where everything stands, of one moment.
func Status(ctx context.Context, db *dbconn.Conn) (report *StatusReport, err error) {
	err = ReadOnly(ctx, db, func(tx pgx.Tx) error {
		report, err = readStatus(ctx, tx)
		return err
	})
	return report, err
}

func readStatus(ctx context.Context, db Querier) (*StatusReport, error) {
	report := StatusReport{Subscriptions: []SubscriptionStatus{}, Relays: []RelayStatus{}}
	if err := db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&report.Now); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, `
		SELECT v.name, s.sink, v.state, coalesce(v.paused_reason, ''), coalesce(v.trouble, ''), coalesce(v.owner, ''), v.lag_messages, v.lag_more, v.lag_seconds,
		       v.retrying, v.held, v.scheduled, v.leased, v.dead, v.discarded, v.parked_more, v.segments_held, v.saved_at
		FROM postrider.subscription_status v JOIN postrider.subscriptions s USING (name) ORDER BY name`)
	if err != nil {
		return nil, err
	}
	report.Subscriptions, err = pgx.AppendRows(report.Subscriptions, rows, func(row pgx.CollectableRow) (s SubscriptionStatus, err error) {
		err = row.Scan(&s.Name, &s.Sink, &s.State, &s.PausedReason, &s.Trouble, &s.Owner, &s.LagMessages, &s.LagMore, &s.LagSeconds, &s.Retrying, &s.Held,
			&s.Scheduled, &s.Leased, &s.Dead, &s.Discarded, &s.ParkedMore, &s.SegmentsHeld, &s.SavedAt)
		s.Sink = destination.Redact(s.Sink)
		return s, err
	})
	if err != nil {
		return nil, err
	}
	if report.Relays, err = ReadRelays(ctx, db); err != nil {
		return nil, err
	}
	if report.Schedules, err = Schedules(ctx, db); err != nil {
		return nil, err
	}
	report.Schedules = slices.DeleteFunc(report.Schedules, func(s Schedule) bool { return s.State == ScheduleActive })
	if report.Operations, err = PressingOperations(ctx, db, 100); err != nil {
		return nil, err
	}
	report.explainStranded()
	return &report, report.nameOwners(ctx, db)
}

// nameOwners tells relays of one name apart, and says which subscriptions relays fight over.
func (r *StatusReport) nameOwners(ctx context.Context, db Querier) error {
	owners := map[string]string{}
	title := Titles(r.Relays)
	rows, err := db.Query(ctx, "SELECT subscription, owner::text FROM postrider.cursors WHERE owner IS NOT NULL")
	if err != nil {
		return err
	}
	var name, owner string
	_, err = pgx.ForEachRow(rows, []any{&name, &owner}, func() error {
		owners[name] = title[owner]
		return nil
	})
	fights := Contested(r.Relays, r.Now)
	for i := range r.Subscriptions {
		s := &r.Subscriptions[i]
		s.OwnerTitle, s.Contested = cmp.Or(owners[s.Name], s.Owner), fights[s.Name]
	}
	return err
}

// unableStatus says why a relay leaves a subscription to others.
type unableStatus struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// explainStranded gives a subscription that nobody delivers the reasons of the relays that cannot.
func (r *StatusReport) explainStranded() {
	for i := range r.Subscriptions {
		s := &r.Subscriptions[i]
		if s.State != "active" || s.Owner != "" {
			continue
		}
		for _, relay := range r.Relays {
			if u, ok := relay.Unable[s.Name]; ok {
				s.Trouble = cmp.Or(s.Trouble, fmt.Sprintf("nobody delivers it: relay %s cannot: %s", relay.Name, u.Reason))
			}
		}
	}
}

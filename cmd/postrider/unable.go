package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
)

// unableStatus says why a relay leaves a subscription to others.
type unableStatus struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// explainStranded gives a subscription that nobody delivers the reasons of the relays that cannot.
func (r *statusReport) explainStranded() {
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

// printUnable lists what relays leave to others.
func (a *app) printUnable(r *statusReport) {
	list, title, n := newTable("RELAY", "CANNOT DELIVER", "SINCE", "BECAUSE"), titles(r.Relays), 0
	for _, relay := range r.Relays {
		for _, name := range slices.Sorted(maps.Keys(relay.Unable)) {
			u := relay.Unable[name]
			list.add(title[relay.Incarnation], name, human.Ago(r.Now, u.Since), human.Clip(u.Reason, 100))
			n++
		}
	}
	if n > 0 {
		a.printf("\n")
		list.print(a.out)
	}
}

// checkUnable finds relays that lack what a subscription needs, also where others deliver it meanwhile.
func (d *doctor) checkUnable(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT r.name, u.key, u.value ->> 'reason' FROM postrider.relays r, jsonb_each(r.unable) u ORDER BY 2, 1")
	if err != nil {
		return err
	}
	var relay, subscription, reason string
	_, err = pgx.ForEachRow(rows, []any{&relay, &subscription, &reason}, func() error {
		d.report("relays", statusWarn, fmt.Sprintf("relay %q cannot deliver %q and leaves it to others: %s", relay, subscription, reason),
			"its log says more; it tries again by itself")
		return nil
	})
	return err
}

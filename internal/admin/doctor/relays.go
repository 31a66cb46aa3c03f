package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
)

// checkRelays finds relays that are registered and have not been seen for too long, and subscriptions that relays fight over.
func (d *examination) checkRelays(ctx context.Context) error {
	var now time.Time
	if err := d.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	relays, err := admin.ReadRelays(ctx, d.db)
	if err != nil {
		return err
	}
	title, alive := admin.Titles(relays), 0
	for _, r := range relays {
		what := ""
		switch {
		case !r.Silent(now):
			alive++
			continue
		case r.Connected:
			what = "has sessions here, and has asked for nothing"
		default:
			what = "has no session here, and has not been seen"
		}
		d.report("relays", StatusWarn, fmt.Sprintf("relay %s %s for %s: it hangs or is gone, without a clean stop. It owns %s, which another relay takes over",
			title[r.Incarnation], what, human.Duration(now.Sub(r.LastSeen)), human.Plural(r.Subscriptions, "subscription")),
			"postrider run", fmt.Sprintf("or, if none is to run: DELETE FROM postrider.relays WHERE incarnation = '%s';", r.Incarnation))
	}
	for name, text := range admin.Contested(relays, now) {
		d.report("relays", StatusWarn, fmt.Sprintf("subscription %q: %s", name, text), "set another POSTRIDER_SUBSCRIPTION for one of them")
	}
	switch {
	case len(relays) == 0:
		d.report("relays", StatusNote, "no relay is registered: nothing is delivered but what workers take in SQL", "postrider run")
	case alive == len(relays):
		d.report("relays", StatusOK, human.Plural(int64(alive), "relay")+" registered, all seen a moment ago")
	}
	return nil
}

// checkUnreached finds relays that workers cannot reach by others.
func (d *examination) checkUnreached(ctx context.Context) error {
	var names []string
	err := d.db.QueryRow(ctx, `SELECT coalesce(array_agg(DISTINCT r.name ORDER BY r.name), '{}') FROM postrider.relays r
		JOIN postrider.cursors c ON c.owner = r.incarnation JOIN postrider.subscriptions s ON s.name = c.subscription
		WHERE s.sink LIKE 'pull:%' AND r.url IS NULL AND (SELECT count(*) FROM postrider.relays) > 1`).Scan(&names)
	if err == nil && len(names) > 0 {
		d.report("relays", StatusWarn, fmt.Sprintf("workers that ask another relay get no jobs of the pull: subscriptions of %s", strings.Join(names, ", ")),
			"set POSTRIDER_API_URL to where relays reach POSTRIDER_API_ADDR of this one")
	}
	return err
}

// checkUnable finds relays that lack what a subscription needs, also where others deliver it meanwhile.
func (d *examination) checkUnable(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT r.name, u.key, u.value ->> 'reason' FROM postrider.relays r, jsonb_each(r.unable) u ORDER BY 2, 1")
	if err != nil {
		return err
	}
	var relay, subscription, reason string
	_, err = pgx.ForEachRow(rows, []any{&relay, &subscription, &reason}, func() error {
		d.report("relays", StatusWarn, fmt.Sprintf("relay %q cannot deliver %q and leaves it to others: %s", relay, subscription, reason),
			"its log says more; it tries again by itself")
		return nil
	})
	return err
}

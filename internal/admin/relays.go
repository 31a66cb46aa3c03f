package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay"
)

// silentAfter is how long nothing may be seen of a relay: it looks at the database at least every second.
const silentAfter = 30 * time.Second

// RelayStatus is a relay that is registered, alive or not.
type RelayStatus struct {
	Name          string    `json:"name"`
	Version       string    `json:"version"`
	Incarnation   string    `json:"incarnation"`
	StartedAt     time.Time `json:"started_at"`
	Subscriptions int64     `json:"subscriptions"`
	// LastSeen is when the relay last asked the database for something, or renewed its lease, by the database's clock.
	LastSeen time.Time `json:"last_seen"`
	// Connected says whether sessions of this relay are there.
	Connected bool `json:"connected"`
	// Unable says by subscription what this relay cannot deliver, for something that it lacks.
	Unable map[string]unableStatus `json:"unable"`
	// Declared are the subscriptions that it was started with.
	Declared map[string]relay.Declaration `json:"-"`
}

// ReadRelays lists the relays. A relay that is alone and idle writes nothing: its sessions, which have its incarnation in their
// names, show that it is there. What they last did is hidden from roles that may not see it; that they are there is not.
func ReadRelays(ctx context.Context, db Querier) ([]RelayStatus, error) {
	rows, err := db.Query(ctx, `
		WITH sessions AS MATERIALIZED (
			SELECT right(application_name, 8) AS short,
			       max(CASE WHEN state IS NULL OR state = 'active' THEN clock_timestamp() ELSE state_change END) AS at
			FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'postrider %' GROUP BY 1)
		SELECT r.name, r.version, r.incarnation::text, r.started_at, coalesce(c.n, 0), greatest(r.seen_at, s.at), s.at IS NOT NULL, r.Declared::text, r.unable
		FROM postrider.relays r
		LEFT JOIN (SELECT owner, count(*) AS n FROM postrider.cursors GROUP BY owner) c ON c.owner = r.incarnation
		LEFT JOIN sessions s ON s.short = left(r.incarnation::text, 8)
		ORDER BY r.started_at, r.incarnation`)
	if err != nil {
		return nil, err
	}
	list := []RelayStatus{}
	var r RelayStatus
	var declared string
	_, err = pgx.ForEachRow(rows, []any{&r.Name, &r.Version, &r.Incarnation, &r.StartedAt, &r.Subscriptions, &r.LastSeen, &r.Connected, &declared, &r.Unable}, func() error {
		r.Declared = nil
		_ = json.Unmarshal([]byte(declared), &r.Declared) // what cannot be read declares nothing
		list = append(list, r)
		r.Unable = nil
		return nil
	})
	return list, err
}

// Silent says whether nothing has been seen of the relay for too long.
func (r RelayStatus) Silent(now time.Time) bool { return now.Sub(r.LastSeen) >= silentAfter }

// Lives is the opposite, but for a relay that was killed a moment after its start: it has neither sessions nor renewed its lease.
func (r RelayStatus) Lives(now time.Time) bool {
	return !r.Silent(now) && (r.Connected || r.LastSeen.Sub(r.StartedAt) > time.Second)
}

// Seen says when the relay was last seen.
func (r RelayStatus) Seen(now time.Time) string {
	if r.Connected && now.Sub(r.LastSeen) < 5*time.Second {
		return "now"
	}
	return human.Ago(now, r.LastSeen)
}

// Titles returns what to call each relay: by its name, and where several have one name by its incarnation, too.
func Titles(relays []RelayStatus) map[string]string {
	times := map[string]int{}
	for _, r := range relays {
		times[r.Name]++
	}
	all := map[string]string{}
	for _, r := range relays {
		all[r.Incarnation] = r.Name
		if times[r.Name] > 1 {
			all[r.Incarnation] += " (" + relay.Short(r.Incarnation) + ")"
		}
	}
	return all
}

// StartedWith returns a relay that has sessions and was started with the subscription, or "".
func StartedWith(relays []RelayStatus, subscription string) string {
	for _, r := range relays {
		if _, ok := r.Declared[subscription]; ok && r.Connected {
			return r.Name
		}
	}
	return ""
}

// Contested returns what to say of each subscription that relays which live were started with different settings for.
func Contested(relays []RelayStatus, now time.Time) map[string]string {
	sums, told := map[string]map[string]bool{}, map[string][]string{}
	title := Titles(relays)
	for _, r := range relays {
		if !r.Lives(now) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(r.Declared)) {
			d := r.Declared[name]
			if sums[name] == nil {
				sums[name] = map[string]bool{}
			}
			if !sums[name][d.Sum] {
				sums[name][d.Sum] = true
				told[name] = append(told[name], fmt.Sprintf("%s (to %s)", title[r.Incarnation], d.Sink))
			}
		}
	}
	texts := map[string]string{}
	for name, who := range told {
		if len(who) > 1 {
			texts[name] = fmt.Sprintf("contested by relays %s: started with different settings, the last start decides", strings.Join(who, ", "))
		}
	}
	return texts
}

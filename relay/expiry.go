package relay

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

const (
	expiryBatch = 1000
	expiryMost  = 5 * time.Minute // between two runs
)

// expiry removes dead letters and discarded messages that are past their retention, of all subscriptions, whoever delivers them. It
// touches only what no runner remembers, and leaves alone:
//   - what the outbox still holds: without its row it would count as delivered, and a replay would bring it back
//   - dead letters of a subscription with on_dead: hold, whose keys wait for a decision
type expiry struct{ *generation }

func (e *expiry) run(ctx context.Context) error {
	retentions := map[string]time.Duration{states.Dead: e.config.DeadRetention, states.Discarded: e.config.DiscardedRetention}
	maps.DeleteFunc(retentions, func(_ string, d time.Duration) bool { return d == 0 })
	if len(retentions) == 0 {
		return nil
	}
	shortest := slices.Min(slices.Collect(maps.Values(retentions)))
	every := min(max(shortest/16, time.Second), expiryMost)
	for {
		for state, retention := range retentions {
			gone, err := e.expire(ctx, state, retention)
			e.tell(state, retention, gone)
			if err != nil && ctx.Err() == nil {
				e.log.Warn("messages past their retention not removed", "state", state, "error", err)
			}
		}
		if !async.Sleep(ctx, every) {
			return nil
		}
	}
}

// tell logs once what a run has removed.
func (e *expiry) tell(state string, retention time.Duration, gone map[string]int64) {
	var total int64
	var parts []any
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		total += gone[name]
		if len(parts) < 10 {
			parts = append(parts, slog.Int64(name, gone[name]))
		}
	}
	if total == 0 {
		return
	}
	e.metrics.Expired.WithLabelValues(state).Add(float64(total))
	e.log.Info(state+" messages past their retention removed", "messages", total, "retention", retention, "subscriptions", len(gone),
		slog.Group("first", parts...))
}

// parkedKey is a place in the order in which they are looked through: what must stay is passed over, not looked at again and again.
type parkedKey struct {
	updated      time.Time
	subscription string
	id           int64
	created      time.Time
}

// The state is written out, for it makes the index apply. Rows are locked without waiting: a command that has hold of one keeps it.
const expireStatement = `WITH old AS MATERIALIZED (
	SELECT p.subscription, p.id, p.created_at, p.updated_at FROM postrider.parked p
	WHERE p.state = '%[1]s' AND p.updated_at < statement_timestamp() - $1::interval
	  AND (p.updated_at, p.subscription, p.id, p.created_at) > ($2::timestamptz, $3::text, $4::bigint, $5::timestamptz)
	ORDER BY p.updated_at, p.subscription, p.id, p.created_at LIMIT $6
), locked AS MATERIALIZED (
	SELECT p.subscription, p.id, p.created_at FROM old o JOIN postrider.subscriptions s ON s.name = o.subscription
	JOIN postrider.parked p ON p.subscription = o.subscription AND p.id = o.id AND p.created_at = o.created_at
	WHERE p.state = '%[1]s' AND p.updated_at = o.updated_at AND ('%[1]s' <> 'dead' OR s.settings ->> 'on_dead' IS DISTINCT FROM 'hold')
	  AND (SELECT true FROM postrider.outbox m WHERE m.id = o.id AND m.created_at = o.created_at LIMIT 1) IS NULL
	FOR UPDATE OF p SKIP LOCKED
), gone AS (
	DELETE FROM postrider.parked p USING locked l WHERE p.subscription = l.subscription AND p.id = l.id AND p.created_at = l.created_at
	RETURNING p.subscription
)
SELECT o.updated_at, o.subscription, o.id, o.created_at, (SELECT count(*) FROM old),
	(SELECT array_agg(g.subscription) FROM gone g)
FROM old o ORDER BY o.updated_at DESC, o.subscription DESC, o.id DESC, o.created_at DESC LIMIT 1`

// expire removes what is past the retention, in batches, and returns how many of each subscription.
func (e *expiry) expire(ctx context.Context, state string, retention time.Duration) (map[string]int64, error) {
	removed := make(map[string]int64)
	at := parkedKey{updated: store.DistantPast, created: store.DistantPast}
	for n := int64(expiryBatch); n == expiryBatch; {
		var names []string
		n = 0
		err := store.WriteLocal(ctx, e.pool, func(b *pgx.Batch) {
			b.Queue(store.ByIndex.SQL)
			b.Queue(fmt.Sprintf(expireStatement, state), retention, at.updated, at.subscription, at.id, at.created, expiryBatch).Query(func(rows pgx.Rows) error {
				for rows.Next() {
					if err := rows.Scan(&at.updated, &at.subscription, &at.id, &at.created, &n, &names); err != nil {
						return err
					}
				}
				return rows.Err()
			})
		})
		if err != nil {
			return removed, fmt.Errorf("remove %s messages: %w", state, err)
		}
		for _, name := range names {
			removed[name]++
		}
	}
	return removed, nil
}

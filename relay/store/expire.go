package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Expiry removes parked messages that are past their retention, of all subscriptions, whoever delivers them.
type Expiry struct{ Pool *dbconn.Pool }

// ParkedPlace is a place in the order in which parked messages are looked through: what must stay is passed over, not looked at again
// and again.
type ParkedPlace struct {
	updated      time.Time
	subscription string
	id           int64
	created      time.Time
}

// BeforeAll is the place to begin at.
func BeforeAll() ParkedPlace { return ParkedPlace{updated: DistantPast, created: DistantPast} }

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

// Remove looks at the next messages of a state past a place, at most so many, and removes those that are older than the retention and that
// nothing needs. It returns the place that it has come to, how many it looked at, and the subscription of each that it removed.
func (e Expiry) Remove(ctx context.Context, state string, retention time.Duration, from ParkedPlace, most int) (to ParkedPlace, looked int, removed []string, err error) {
	to = from
	err = writeLocal(ctx, e.Pool, func(b *pgx.Batch) {
		b.Queue(byIndex.sql)
		b.Queue(fmt.Sprintf(expireStatement, state), retention, from.updated, from.subscription, from.id, from.created, most).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&to.updated, &to.subscription, &to.id, &to.created, &looked, &removed); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return from, 0, nil, fmt.Errorf("remove %s messages: %w", state, err)
	}
	return to, looked, removed, nil
}

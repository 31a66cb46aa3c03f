package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/states"
)

// Status is what one look at the database shows of what a relay is to tell of: its own subscriptions, and if it is the eldest those of none.
type Status struct {
	Subscriptions []Stand
	// Eldest says whether this relay is the one that tells of what no relay delivers, and of what is nobody's.
	Eldest                               bool
	SegmentsFilled, SegmentsOverdue      int64
	OutboxBytes, ParkedBytes             int64
	SchedulesOverdue, SchedulesInTrouble int64
}

// Stand is where a subscription stands.
type Stand struct {
	Name               string
	InSQL              bool // workers take it in SQL: it has no cursor
	Paused             bool
	LagMessages        int64
	LagMore            bool
	LagSeconds, Oldest float64 // in seconds
	Parked             map[string]int64
	ParkedMore         bool
	SegmentsHeld       int64
}

// lookLimits keep a look from hurting anybody: it waits for no lock that matters, and is given up long before it is a burden.
var lookLimits = "SELECT " + setLocal("statement_timeout", "10s", "lock_timeout", "1s", "jit", "off", "enable_seqscan", "off", "enable_bitmapscan", "off")

// eldest is the relay that registered first of those that are registered.
const eldest = "(SELECT incarnation FROM postrider.relays ORDER BY started_at, incarnation LIMIT 1)"

// standsQuery shows those whose owner is the relay, and to the eldest those that no registered relay owns, all bounded: the view counts some thousands
// of rows, and of what is parked the first of each state is the oldest.
var standsQuery = `WITH place AS MATERIALIZED (
		SELECT DISTINCT ON (c.subscription) c.subscription, c.owner FROM postrider.cursors c ORDER BY c.subscription, c.shard, c.class)
	SELECT v.name, p.subscription IS NULL, v.state <> 'active', v.lag_messages, v.lag_more, greatest(v.lag_seconds, 0),
	       greatest(v.lag_seconds, 0, CASE WHEN v.retrying + v.held + v.leased > 0 THEN (
	           SELECT extract(epoch FROM clock_timestamp() - min(o.created_at)) FROM unnest(ARRAY[` + states.SQL(func(s states.State) bool { return s.Counts }) + `]) t (state) CROSS JOIN LATERAL (
	               SELECT k.created_at FROM postrider.parked k WHERE k.subscription = v.name AND k.state = t.state ORDER BY k.id LIMIT 1) o
	           WHERE isfinite(o.created_at)) END)::float8,
	       v.retrying, v.held, v.scheduled, v.leased, v.dead, v.discarded, v.cancelled, v.parked_more, v.segments_held
	FROM postrider.subscription_status v LEFT JOIN place p ON p.subscription = v.name
	WHERE p.owner = $1::text::uuid OR $1::text::uuid = ` + eldest + ` AND (p.owner IS NULL OR p.owner NOT IN (SELECT r.incarnation FROM postrider.relays r))`

const logQuery = `SELECT coalesce($1::text::uuid = ` + eldest + `, false), count(*) FILTER (WHERE s.filled), count(*) FILTER (WHERE s.old), sum(s.bytes)::bigint, pg_total_relation_size('postrider.parked'),
	       (SELECT count(*) FROM (SELECT FROM postrider.schedules d WHERE d.due < clock_timestamp() - interval '1 minute' AND d.trouble IS NULL LIMIT 1000) d),
	       (SELECT count(*) FROM (SELECT FROM postrider.schedules d WHERE d.trouble IS NOT NULL LIMIT 1000) d)
	FROM (SELECT EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = g::smallint) AS filled, postrider.segment_is_old(g::smallint, $2::bigint * interval '1 microsecond') AS old,
	             pg_total_relation_size(('postrider.outbox_' || g)::regclass) AS bytes
	      FROM generate_series(0, 15) g) s`

// Status looks at what the relay is to tell of, by one round trip, and for ten seconds at most.
func (d Database) Status(ctx context.Context, retention time.Duration) (*Status, error) {
	s := &Status{}
	err := read(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(lookLimits)
		b.Queue(standsQuery, d.Incarnation).Query(func(rows pgx.Rows) (err error) {
			s.Subscriptions, err = pgx.CollectRows(rows, scanStand)
			return err
		})
		b.Queue(logQuery, d.Incarnation, retention.Microseconds()).QueryRow(func(row pgx.Row) error {
			return row.Scan(&s.Eldest, &s.SegmentsFilled, &s.SegmentsOverdue, &s.OutboxBytes, &s.ParkedBytes, &s.SchedulesOverdue, &s.SchedulesInTrouble)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look where subscriptions stand: %w", err)
	}
	return s, nil
}

func scanStand(row pgx.CollectableRow) (s Stand, err error) {
	var retrying, held, scheduled, leased, dead, discarded, cancelled int64
	err = row.Scan(&s.Name, &s.InSQL, &s.Paused, &s.LagMessages, &s.LagMore, &s.LagSeconds, &s.Oldest,
		&retrying, &held, &scheduled, &leased, &dead, &discarded, &cancelled, &s.ParkedMore, &s.SegmentsHeld)
	s.Parked = map[string]int64{states.Retrying: retrying, states.Held: held, states.Scheduled: scheduled, states.Leased: leased,
		states.Dead: dead, states.Discarded: discarded, states.Cancelled: cancelled}
	return s, err
}

package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Ring is the log's ring of segments.
type Ring struct {
	Now time.Time `json:"now"` // by the database's clock
	// Seconds is how long a segment is the one that is filled.
	Seconds  int64     `json:"segment_seconds"`
	Segments []Segment `json:"segments"`
}

// Segment is one of the ring; the keys are stable.
type Segment struct {
	Segment int        `json:"segment"`
	Current bool       `json:"current"` // it is being filled
	Next    bool       `json:"next"`    // it is filled next, and must be empty by then
	Bytes   int64      `json:"bytes"`
	Oldest  *time.Time `json:"oldest"` // nil: it is empty
	Newest  *time.Time `json:"newest"`
	Old     bool       `json:"old"` // it is past the retention
	// Needed is how many subscriptions have not settled all of it, NeededBy some of them.
	Needed   int64    `json:"needed"`
	NeededBy []string `json:"needed_by"`
	// Holders are sessions and prepared transactions that use it.
	Holders []string `json:"holders"`
}

// ReadRing says how each segment is, and what keeps it from being emptied.
func ReadRing(ctx context.Context, db *dbconn.Conn, retention time.Duration) (ring Ring, err error) {
	ring.Segments = []Segment{}
	err = ReadOnly(ctx, db, func(tx pgx.Tx) error {
		if err := byIndex(ctx, tx); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT clock_timestamp(), segment_seconds FROM postrider.source").Scan(&ring.Now, &ring.Seconds); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, ringQuery, int64(retention/time.Microsecond))
		if err != nil {
			return err
		}
		ring.Segments, err = pgx.AppendRows(ring.Segments, rows, pgx.RowToStructByPos[Segment])
		return err
	})
	return ring, err
}

// A segment is needed by whoever has not passed its newest transaction, or had one of its transactions running.
var ringQuery = `
	WITH segment AS MATERIALIZED (
		SELECT g AS n, pg_relation_size(('postrider.outbox_' || g)::regclass) AS bytes, postrider.segment_is_old(g::smallint, $1::bigint * interval '1 microsecond') AS old,
		       (SELECT o.created_at FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.id LIMIT 1) AS oldest,
		       (SELECT o.created_at FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.id DESC LIMIT 1) AS newest,
		       (SELECT o.xid FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.xid DESC LIMIT 1) AS top
		FROM generate_series(0, 15) g
	), place AS MATERIALIZED (
		SELECT c.subscription, c.base, pg_snapshot_xmax(c.base) AS top FROM postrider.cursors c
		UNION ALL SELECT p.subscription, p.base, pg_snapshot_xmax(p.base) FROM postrider.shard_places p
	), running AS MATERIALIZED ( -- what has messages of the transactions that some cursor had running
		SELECT p.subscription, o.segment FROM place p CROSS JOIN LATERAL pg_snapshot_xip(p.base) x
		JOIN LATERAL (SELECT DISTINCT o.segment FROM postrider.outbox o WHERE o.xid = x) o ON true
	), needed AS MATERIALIZED ( -- once, not for each segment
		SELECT s.n, p.subscription FROM segment s JOIN place p ON s.top >= p.top
		UNION SELECT r.segment, r.subscription FROM running r
	)
	SELECT s.n, s.n = postrider.current_segment(), s.n = (postrider.current_segment() + 1) % 16, s.bytes, ` + writable("s.oldest") + `, ` + writable("s.newest") + `, s.old,
	       coalesce(k.n, 0), coalesce(k.names, '{}'), coalesce(h.list, '{}')
	FROM segment s
	LEFT JOIN LATERAL (SELECT count(*) AS n, (array_agg(q.subscription ORDER BY q.subscription))[1:5] AS names FROM needed q WHERE q.n = s.n) k ON true
	LEFT JOIN LATERAL (
		SELECT array_agg(coalesce('process ' || l.pid, 'prepared transaction ' || quote_literal(l.gid)) || coalesce(' of role ' || l.role, '')
			|| coalesce(' since ' || to_char(l.since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), '')) AS list
		FROM (SELECT DISTINCT l.pid, l.gid, l.role, l.since FROM postrider.lock_holders('outbox_' || s.n) l ORDER BY l.since LIMIT 3) l
		WHERE s.old) h ON true
	ORDER BY s.n`

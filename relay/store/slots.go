package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal"
)

// Slots is what the server says of its replication slots.
type Slots struct{ Pool *dbconn.Pool }

// Free implements Slots.
func (s Slots) Free(ctx context.Context) (slots, senders int, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT
		current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
		current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)::int`).Scan(&slots, &senders)
	return slots, senders, err
}

// HoldsBack implements Slots.
func (s Slots) HoldsBack(ctx context.Context, slot string) (bytes int64, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT coalesce(pg_current_wal_lsn() - restart_lsn, 0)::bigint
		FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // not created yet
	}
	return bytes, err
}

// snapshot implements Slots.
func (s Slots) Snapshot(ctx context.Context) (snapshot.Snapshot, error) {
	var text string
	if err := s.Pool.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		return snapshot.Snapshot{}, err
	}
	return snapshot.Parse(text)
}

// Largest implements Slots.
func (s Slots) Largest(ctx context.Context, from uint64) (which string, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT format('%s, topic %s, %s bytes stored', id, topic,
			coalesce(pg_column_size(payload), 0) + coalesce(pg_column_size(body), 0) + coalesce(pg_column_size(headers), 0) + coalesce(pg_column_size(key), 0))
		FROM postrider.outbox WHERE xid >= $1::text::xid8
		ORDER BY CASE WHEN pg_column_compression(payload) IS NULL THEN 1 ELSE 100 END * coalesce(pg_column_size(payload), pg_column_size(body)) DESC
		LIMIT 1`, strconv.FormatUint(from, 10)).Scan(&which)
	return which, err
}

// Streamable says why the server or role cannot stream, "" if it can. It asks the catalog's tables alone: the view of what is published
// opens those tables from PostgreSQL 18 on, and waits for whoever has one locked.
func Streamable(ctx context.Context, pool *dbconn.Pool) (why string, err error) {
	var level string
	var replication bool
	var published *string // what the publication is for, null if there is none
	err = pool.QueryRow(ctx, `SELECT current_setting('wal_level'),
		(SELECT rolreplication OR rolsuper OR EXISTS (
			SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(m.oid, 'USAGE'))
		 FROM pg_roles WHERE rolname = current_user),
		(SELECT CASE WHEN p.puballtables THEN 'all tables'
		             WHEN NOT p.pubinsert OR NOT p.pubviaroot THEN 'something else than insertions by way of the partitioned table'
		             WHEN EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid
		                          AND d.classid = to_regclass('pg_catalog.pg_publication_namespace')) THEN 'all tables of a schema'
		             ELSE (SELECT coalesce(string_agg(format('%I.%I', n.nspname, c.relname), ', '), 'no table')
		                   FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid) END
		 FROM pg_publication p WHERE p.pubname = $1)`, wal.Publication).Scan(&level, &replication, &published)
	switch {
	case err != nil:
		return "", fmt.Errorf("read whether the server can stream: %w", err)
	case level != "logical":
		return fmt.Sprintf("wal_level is %q: ALTER SYSTEM SET wal_level = logical, then restart PostgreSQL", level), nil
	case !replication:
		return "the role may not replicate: ALTER ROLE … REPLICATION", nil
	case published == nil:
		return "publication postrider is missing: `postrider doctor` shows the statement that makes it", nil
	case *published != "postrider.outbox":
		return fmt.Sprintf("the publication postrider is for %s, not for postrider.outbox alone: `postrider doctor` shows what to do", *published), nil
	}
	return "", nil
}

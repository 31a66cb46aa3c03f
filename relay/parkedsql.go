package relay

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// maxScheduled bounds the scheduled messages of a subscription that are kept in memory; later ones are looked up in time.
const maxScheduled = 10_000

// loadParked returns the parked deliveries that matter for what comes: those that wait, and dead ones whose key is held. It reads them
// in pages, of which each looks at so many rows, whatever it finds among them.
func loadParked(ctx context.Context, db *dbconn.Pool, name string, hold bool) (entries []*entry, err error) {
	wanted := []string{stateRetry, stateHeld, stateAccepted, "completed", "failed"}
	if hold {
		wanted = append(wanted, stateDead)
	}
	after := int64(math.MinInt64)
	for most := maxScheduled; ; {
		page, err := loadEntries(ctx, db, `WITH page AS MATERIALIZED (
				SELECT id, key, state, attempts, due FROM postrider.parked WHERE subscription = $1 AND id > $3 ORDER BY id LIMIT $4)
			SELECT id, coalesce(key, ''), state, attempts, coalesce(due, 'epoch'), state = ANY ($2) FROM page
			WHERE state = ANY ($2) OR id = (SELECT max(id) FROM page) ORDER BY id`, name, wanted, after, most)
		switch {
		case err != nil && isCutOff(err) && ctx.Err() == nil && most > 1:
			most /= 2
			continue
		case err != nil:
			return nil, fmt.Errorf("load parked messages: %w", err)
		case len(page) == 0:
			return entries, nil
		}
		after = page[len(page)-1].id
		for _, e := range page {
			if e.wanted {
				entries = append(entries, e.entry)
			}
		}
	}
}

// loadScheduled returns the next scheduled deliveries from the given time on, and whether there may be more.
func loadScheduled(ctx context.Context, db *dbconn.Pool, name string, from time.Time) (entries []*entry, more bool, err error) {
	for most := maxScheduled; ; most /= 2 {
		found, err := loadEntries(ctx, db, `SELECT id, coalesce(key, ''), state, attempts, due, true FROM postrider.parked
			WHERE subscription = $1 AND state = 'scheduled' AND due >= $2 ORDER BY due, id LIMIT $3`, name, from, most)
		if err != nil && isCutOff(err) && ctx.Err() == nil && most > 1 {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("load scheduled messages: %w", err)
		}
		for _, e := range found {
			entries = append(entries, e.entry)
		}
		return entries, len(found) == most, nil
	}
}

// foundEntry is an entry that was read, and whether it is more than the end of a page.
type foundEntry struct {
	*entry
	wanted bool
}

func loadEntries(ctx context.Context, db *dbconn.Pool, query string, args ...any) (found []foundEntry, err error) {
	err = read(ctx, db, func(b *pgx.Batch) {
		b.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, toEntry)
			return err
		})
	})
	return found, err
}

func toEntry(r pgx.CollectableRow) (foundEntry, error) {
	e := foundEntry{entry: &entry{heapIndex: -1}}
	err := r.Scan(&e.id, &e.key, &e.state, &e.attempts, &e.due, &e.wanted)
	if e.state == "completed" || e.state == "failed" {
		e.state = stateAccepted // until the callback is looked up
	}
	e.stored = e.state
	return e, err
}

// anyParked says whether there are parked messages that a pass must leave out and memory does not know.
func anyParked(ctx context.Context, db *dbconn.Pool, name string) (bool, error) {
	var any bool
	err := read(ctx, db, func(b *pgx.Batch) {
		b.Queue(`SELECT EXISTS (SELECT FROM postrider.parked WHERE subscription = $1)`, name).
			QueryRow(func(row pgx.Row) error { return row.Scan(&any) })
	})
	if err != nil {
		return false, fmt.Errorf("look for parked messages: %w", err)
	}
	return any, nil
}

// Many retries of many subscriptions may be due at once: only what is small as it is stored comes with the rest.
var parkedRows = newReading("postrider_parked_rows", smallColumns, `FROM (
	SELECT id, '0'::xid8 AS xid, created_at, NULL::timestamptz AS deliver_at, topic, key, payload, body, headers
	FROM postrider.parked WHERE subscription = $1::text AND id = ANY ($2::text::bigint[]) AND state IN ('retry', 'held', 'scheduled')) p`)

// loadParkedRows reads the messages of parked deliveries: what is not among them was discarded by a command.
func (p *passes) loadParkedRows(ctx context.Context, name string, epoch int64, ids []int64) (map[int64]*row, error) {
	found, err := p.readParkedRows(ctx, parkedRows.whole, name, epoch, ids)
	if unreadable(err) {
		return p.readParkedRows(ctx, parkedRows.heads, name, epoch, ids)
	}
	return found, err
}

func (p *passes) readParkedRows(ctx context.Context, s statement, name string, epoch int64, ids []int64) (map[int64]*row, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	found, arrived := make(map[int64]*row, len(ids)), int64(0)
	args := [][]byte{[]byte(name), append(appendIDs([]byte{'{'}, ids), '}')}
	err = newSession(conn.Conn()).run(ctx, begin, byIndex,
		call{statement: s, args: args, binary: true, row: toRow(newDecoder(p.source), func(r *row) error {
			found[r.Row] = r
			if arrived += r.arrived(); arrived > maxOverflow {
				return errOverflow
			}
			return nil
		})}, mineCall(p.incarnation, name, epoch), commit)
	return found, err
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// distantPast is before every time that a message is due.
var distantPast = time.Unix(0, 0)

// maxScheduled bounds the scheduled messages of a subscription that are kept in memory; later ones are looked up in time.
const maxScheduled = 10_000

// maxCounted is what the setting max_scheduled is at most.
const maxCounted = 100_000_000

// loadParked returns the parked deliveries that matter for what comes: those that wait, and dead ones whose key is held. It reads them
// in pages, of which each looks at so many rows, whatever it finds among them.
func (d *database) loadParked(ctx context.Context, name string, hold bool) (rows []parkedRow, err error) {
	wanted := states.Names(func(s states.State) bool { return s.Counts })
	if hold {
		wanted = append(wanted, states.Dead)
	}
	from := int64(math.MinInt64)
	for most := maxScheduled; ; {
		page, err := d.queryParked(ctx, `WITH page AS MATERIALIZED (
				SELECT * FROM postrider.parked WHERE subscription = $1 AND id >= $3 ORDER BY id FETCH FIRST ($4::bigint) ROWS WITH TIES)
			SELECT `+entryColumns+`, state = ANY ($2) FROM page
			WHERE state = ANY ($2) OR id = (SELECT max(id) FROM page) ORDER BY id`, name, wanted, from, most)
		switch {
		case err != nil && store.IsCutOff(err) && ctx.Err() == nil && most > 1:
			most /= 2
			continue
		case err != nil:
			return nil, fmt.Errorf("load parked messages: %w", err)
		case len(page) == 0:
			return rows, nil
		}
		for _, e := range page {
			if e.wanted {
				rows = append(rows, e)
			}
		}
		last := page[len(page)-1].id
		if last == math.MaxInt64 {
			return rows, nil
		}
		from = last + 1
	}
}

// loadScheduled returns the next scheduled deliveries from the given time on, and whether there may be more.
func (d *database) loadScheduled(ctx context.Context, name string, from time.Time) (rows []parkedRow, more bool, err error) {
	since := pgtype.Timestamptz{Time: from, Valid: true}
	if from.Equal(distantPast) {
		since = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	for most := maxScheduled; ; most /= 2 {
		found, err := d.queryParked(ctx, `SELECT `+entryColumns+`, true FROM postrider.parked
			WHERE subscription = $1 AND state = '`+states.Scheduled+`' AND (due >= $2 OR due IS NULL AND $2 = '-infinity') ORDER BY due, id LIMIT $3`, name, since, most)
		if err != nil && store.IsCutOff(err) && ctx.Err() == nil && most > 1 {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("load scheduled messages: %w", err)
		}
		return found, len(found) == most, nil
	}
}

// countScheduled counts the scheduled deliveries; of more than could be counted in time, so many.
func (d *database) countScheduled(ctx context.Context, name string) (n int, err error) {
	for most := maxCounted; ; most /= 2 {
		err = store.Read(ctx, d.pool, func(b *pgx.Batch) {
			b.Queue(`SELECT count(*) FROM (SELECT FROM postrider.parked WHERE subscription = $1 AND state = 'scheduled' LIMIT $2) s`, name, most).
				QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		})
		if err != nil && store.IsCutOff(err) && ctx.Err() == nil && most > maxScheduled {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("count scheduled messages: %w", err)
		}
		return n, nil
	}
}

// parkedRow is a parked delivery as the table has it. The message itself stays there.
type parkedRow struct {
	id, born int64
	xid      uint64 // 0: not known
	key      string
	state    string
	attempts int
	due      time.Time
	wanted   bool // else it is only the end of a page
}

func (d *database) queryParked(ctx context.Context, query string, args ...any) (found []parkedRow, err error) {
	err = store.Read(ctx, d.pool, func(b *pgx.Batch) {
		b.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, toParkedRow)
			return err
		})
	})
	return found, err
}

// entryColumns belong to toParkedRow, which takes times as PostgreSQL has them, infinity included.
const entryColumns = `id, timestamptz_send(created_at), coalesce(xid::text, '0'), coalesce(key, ''), state, attempts, timestamptz_send(coalesce(due, 'epoch'))`

func toParkedRow(r pgx.CollectableRow) (parkedRow, error) {
	var e parkedRow
	var created, due []byte
	var xid string
	if err := r.Scan(&e.id, &created, &xid, &e.key, &e.state, &e.attempts, &due, &e.wanted); err != nil {
		return e, err
	}
	var err1, err2, err3 error
	e.born, err1 = message.DecodeInt(created)
	e.xid, err2 = strconv.ParseUint(xid, 10, 64)
	e.due, err3 = message.DecodeTime(due)
	err := errors.Join(err1, err2, err3)
	if states.Of(e.state).CalledBack() {
		e.state = states.Leased // until the callback is looked up
	}
	return e, err
}

// anyParked says whether there are parked messages that a pass must leave out and memory does not know.
func (d *database) anyParked(ctx context.Context, name string) (bool, error) {
	var any bool
	err := store.Read(ctx, d.pool, func(b *pgx.Batch) {
		b.Queue(`SELECT EXISTS (SELECT FROM postrider.parked WHERE subscription = $1)`, name).
			QueryRow(func(row pgx.Row) error { return row.Scan(&any) })
	})
	if err != nil {
		return false, fmt.Errorf("look for parked messages: %w", err)
	}
	return any, nil
}

// loadable are the states in which a relay takes a message from its row.
var loadable = states.SQL(states.State.Loadable)

// Many retries of many subscriptions may be due at once: only what is small as it is stored comes with the rest.
var parkedRows = store.NewReading("postrider_parked_rows", store.SmallColumns, `FROM (
	SELECT id, coalesce(xid, '0') AS xid, created_at, NULL::timestamptz AS deliver_at, topic, key, payload, body, headers
	FROM postrider.parked WHERE subscription = $1::text AND id = ANY ($2::text::bigint[]) AND state IN (`+loadable+`)) p`)

// loadParkedRows reads the messages of parked deliveries: what is not among them was discarded by a command.
func (d *database) loadParkedRows(ctx context.Context, name string, epoch int64, ids []int64) (map[snapshot.Ident]*message.Row, error) {
	found, err := d.readParkedRows(ctx, parkedRows.Whole, name, epoch, ids)
	if store.Unreadable(err) {
		return d.readParkedRows(ctx, parkedRows.Heads, name, epoch, ids)
	}
	return found, err
}

func (d *database) readParkedRows(ctx context.Context, s store.Statement, name string, epoch int64, ids []int64) (map[snapshot.Ident]*message.Row, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	found, arrived := make(map[snapshot.Ident]*message.Row, len(ids)), int64(0)
	args := [][]byte{[]byte(name), append(snapshot.AppendIDs([]byte{'{'}, ids), '}')}
	err = store.NewSession(conn.Conn()).Run(ctx, store.Begin, store.ByIndex,
		store.Call{Statement: s, Args: args, Binary: true, Row: store.ToRow(message.NewDecoder(d.source), func(r *message.Row) error {
			found[r.Ident()] = r
			if arrived += r.Arrived(); arrived > message.MaxOverflow {
				return store.ErrOverflow
			}
			return nil
		})}, store.MineCall(d.incarnation, name, epoch), store.Commit)
	return found, err
}

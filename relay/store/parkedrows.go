package store

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
	"github.com/postrider/postrider/relay/subscription"
)

// DistantPast is before every time that a message is due.
var DistantPast = time.Unix(0, 0)

// MaxScheduled bounds the scheduled messages of a subscription that are kept in memory; later ones are looked up in time.
const MaxScheduled = 10_000

// maxCounted is what the setting max_scheduled is at most.
const maxCounted = 100_000_000

// LoadParked returns the parked deliveries that matter for what comes: those that wait, and dead ones whose key is held. It reads them
// in pages, of which each looks at so many rows, whatever it finds among them.
func (d *Database) LoadParked(ctx context.Context, name string, hold bool) (rows []Parked, err error) {
	wanted := states.Names(func(s states.State) bool { return s.Counts })
	if hold {
		wanted = append(wanted, states.Dead)
	}
	from := int64(math.MinInt64)
	for most := MaxScheduled; ; {
		page, err := d.queryParked(ctx, `WITH page AS MATERIALIZED (
				SELECT * FROM postrider.parked WHERE subscription = $1 AND id >= $3 ORDER BY id FETCH FIRST ($4::bigint) ROWS WITH TIES)
			SELECT `+entryColumns+`, state = ANY ($2) FROM page
			WHERE state = ANY ($2) OR id = (SELECT max(id) FROM page) ORDER BY id`, name, wanted, from, most)
		switch {
		case err != nil && IsCutOff(err) && ctx.Err() == nil && most > 1:
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
		last := page[len(page)-1].ID
		if last == math.MaxInt64 {
			return rows, nil
		}
		from = last + 1
	}
}

// LoadScheduled returns the next scheduled deliveries from the given time on, and whether there may be more.
func (d *Database) LoadScheduled(ctx context.Context, name string, from time.Time) (rows []Parked, more bool, err error) {
	since := pgtype.Timestamptz{Time: from, Valid: true}
	if from.Equal(DistantPast) {
		since = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	for most := MaxScheduled; ; most /= 2 {
		found, err := d.queryParked(ctx, `SELECT `+entryColumns+`, true FROM postrider.parked
			WHERE subscription = $1 AND state = '`+states.Scheduled+`' AND (due >= $2 OR due IS NULL AND $2 = '-infinity') ORDER BY due, id LIMIT $3`, name, since, most)
		if err != nil && IsCutOff(err) && ctx.Err() == nil && most > 1 {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("load scheduled messages: %w", err)
		}
		return found, len(found) == most, nil
	}
}

// CountScheduled counts the scheduled deliveries; of more than could be counted in time, so many.
func (d *Database) CountScheduled(ctx context.Context, name string) (n int, err error) {
	for most := maxCounted; ; most /= 2 {
		err = read(ctx, d.Pool, func(b *pgx.Batch) {
			b.Queue(`SELECT count(*) FROM (SELECT FROM postrider.parked WHERE subscription = $1 AND state = 'scheduled' LIMIT $2) s`, name, most).
				QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		})
		if err != nil && IsCutOff(err) && ctx.Err() == nil && most > MaxScheduled {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("count scheduled messages: %w", err)
		}
		return n, nil
	}
}

// Parked is a parked delivery as the table has it. The message itself stays there.
type Parked struct {
	ID, Born int64
	XID      uint64 // 0: not known
	Key      string
	Priority int16 // from 1 to 4
	State    string
	Attempts int
	Due      time.Time
	Token    int64  // of the attempt that was leased the last time
	Worker   string // who has it, if a sink has leased it by itself
	wanted   bool   // else it is only the end of a page
}

func (d *Database) queryParked(ctx context.Context, query string, args ...any) (found []Parked, err error) {
	err = read(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, toParkedRow)
			return err
		})
	})
	return found, err
}

// entryColumns belong to toParkedRow, which takes times as PostgreSQL has them, infinity included.
const entryColumns = `id, timestamptz_send(created_at), coalesce(xid::text, '0'), coalesce(key, ''), state, attempts, timestamptz_send(coalesce(due, 'epoch')), coalesce(token, 0), coalesce(worker, ''), postrider.class_of(priority)`

func toParkedRow(r pgx.CollectableRow) (Parked, error) {
	var e Parked
	var created, due []byte
	var xid string
	if err := r.Scan(&e.ID, &created, &xid, &e.Key, &e.State, &e.Attempts, &due, &e.Token, &e.Worker, &e.Priority, &e.wanted); err != nil {
		return e, err
	}
	var err1, err2, err3 error
	e.Born, err1 = message.DecodeInt(created)
	e.XID, err2 = strconv.ParseUint(xid, 10, 64)
	e.Due, err3 = message.DecodeTime(due)
	err := errors.Join(err1, err2, err3)
	if states.Of(e.State).CalledBack() {
		e.State, e.Worker = states.Leased, "" // until the callback is looked up
	}
	return e, err
}

// AnyParked says whether there are parked messages that a pass must leave out and memory does not know.
func (d *Database) AnyParked(ctx context.Context, name string) (bool, error) {
	var any bool
	err := read(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(`SELECT EXISTS (SELECT FROM postrider.parked WHERE subscription = $1)`, name).
			QueryRow(func(row pgx.Row) error { return row.Scan(&any) })
	})
	if err != nil {
		return false, fmt.Errorf("read which parked messages are there: %w", err)
	}
	return any, nil
}

// loadable are the states in which a relay takes a message from its row.
var loadable = states.SQL(states.State.Loadable)

// Many retries of many subscriptions may be due at once: only what is small as it is stored comes with the rest.
var parkedRows = newReading("postrider_parked_rows", smallColumns, `FROM (
	SELECT `+parkedColumns+`
	FROM postrider.parked WHERE subscription = $1::text AND id = ANY ($2::text::bigint[]) AND state IN (`+loadable+`)) p`)

// LoadParkedRows reads the messages of parked deliveries: what is not among them was discarded by a command.
func (d *Database) LoadParkedRows(ctx context.Context, part subscription.Part, epoch int64, ids []int64) (map[snapshot.Ident]*message.Row, error) {
	found, err := d.readParkedRows(ctx, parkedRows.whole, part, epoch, ids)
	if Unreadable(err) {
		return d.readParkedRows(ctx, parkedRows.heads, part, epoch, ids)
	}
	return found, err
}

func (d *Database) readParkedRows(ctx context.Context, s statement, part subscription.Part, epoch int64, ids []int64) (map[snapshot.Ident]*message.Row, error) {
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	found, arrived := make(map[snapshot.Ident]*message.Row, len(ids)), int64(0)
	args := [][]byte{[]byte(part.Subscription), append(snapshot.AppendIDs([]byte{'{'}, ids), '}')}
	err = NewSession(conn.Conn()).run(ctx, begin, byIndex,
		call{statement: s, args: args, binary: true, row: toRow(message.NewDecoder(d.Source), func(r *message.Row) error {
			found[r.Ident()] = r
			if arrived += r.Arrived(); arrived > message.MaxOverflow {
				return ErrOverflow
			}
			return nil
		})}, mineCall(Owned{part, d.Incarnation, epoch}), commit)
	return found, err
}

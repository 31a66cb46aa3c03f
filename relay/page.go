package relay

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// exactStartRows is the size up to which windows are searched for their exact first id.
const exactStartRows = 20_000

// page is some rows of a pass in ascending order of id.
type page struct {
	target snapshot.Snapshot
	fresh  bool
	begun  bool  // start is known
	start  int64 // the pass reads ids above this
	rows   []*message.Row
	end    int64 // the page has all that is wanted up to here; 0: up to its last row
	last   bool
	dense  bool // about half of the rows up to the page's last one were wanted, or more
}

// reaches returns the id up to which the page has all that is wanted.
func (p *page) reaches() int64 {
	if p.end != 0 || len(p.rows) == 0 {
		return max(p.end, p.start)
	}
	return p.rows[len(p.rows)-1].ID
}

// pageQuery is what a page is to have.
type pageQuery struct {
	name    string                  // of the subscription
	base    snapshot.Snapshot       // rows that it sees are left out
	target  *snapshot.Snapshot      // and those that it does not see; nil: the snapshot at the time of reading
	regex   string                  // of topics, unless they are sieved here
	wants   func(*message.Row) bool // judges rows exactly
	sieve   bool
	exclude bool         // leave out what is parked in the table
	heads   bool         // without what the rows carry
	rows    int          // most of them
	scan    int          // most rows to look at; 0: any number
	bytes   int64        // of rows, past which the next page begins
	lowest  *bool        // begin with the first row of all: to look for the window's was cut off
	mine    []store.Call // fails once the cursor is not ours any more
}

var (
	passSnapshot = store.Statement{Name: "postrider_pass_snapshot", SQL: `SELECT pg_current_snapshot()::text, NOT pg_is_in_recovery()`}
	// The window's first id: exact for a small window, else the first id of the segments that hold some of it.
	passStart = store.Statement{Name: "postrider_pass_start", SQL: `SELECT CASE WHEN n < ` + strconv.Itoa(exactStartRows) + ` THEN lowest ELSE (
			SELECT min(s.lowest) FROM generate_series(0, 15) g (segment) CROSS JOIN LATERAL (
				SELECT o.id AS lowest FROM postrider.outbox o WHERE o.segment = g.segment::smallint ORDER BY o.id LIMIT 1) s
			WHERE EXISTS (SELECT` + store.FromXmax + ` AND segment = g.segment::smallint)
			   OR EXISTS (SELECT` + store.FromXip + ` AND segment = g.segment::smallint)) END
		FROM (SELECT min(id) AS lowest, count(*) AS n FROM (
			SELECT id FROM (SELECT id` + store.FromXmax + ` UNION ALL SELECT id` + store.FromXip + `) u LIMIT ` + strconv.Itoa(exactStartRows) + `) w) c`}
	passLowest = store.Statement{Name: "postrider_pass_lowest", SQL: `SELECT id FROM postrider.outbox ORDER BY id LIMIT 1`}
	// A parameter that is not text needs its type: a cast from text would be made for each row. The regular expression costs more
	// than all the rest of a row: it is NULL while most topics match.
	passPage = `FROM postrider.outbox o
		WHERE id > $1::bigint AND NOT pg_visible_in_snapshot(xid, $2::pg_snapshot) AND pg_visible_in_snapshot(xid, $3::pg_snapshot)
		  AND ($4::text IS NULL OR topic ~ $4::text) AND id <= $6::bigint %s
		ORDER BY id FETCH FIRST ($5::bigint) ROWS WITH TIES` // an id that comes twice is read at once: the next page follows ids
	// Where a page that looks at so many rows ends, if there are as many.
	passEnd   = store.Statement{Name: "postrider_page_end", SQL: `SELECT id FROM postrider.outbox WHERE id > $1::bigint ORDER BY id OFFSET $2::bigint - 1 LIMIT 1`}
	passPages = [2]store.Reading{
		store.NewReading("postrider_page", store.ReadColumns, fmt.Sprintf(passPage, "")),
		store.NewReading("postrider_page_unparked", store.ReadColumns, fmt.Sprintf(passPage, `AND NOT EXISTS (
			SELECT FROM postrider.parked p WHERE p.subscription = $7::text AND p.id = o.id AND p.created_at = o.created_at)`)),
	}
)

// readPage reads the page that follows next.start, after choosing target and start if that is still to do.
func (d *database) readPage(ctx context.Context, q *pageQuery, next page) (page, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return page{}, err
	}
	defer conn.Release()
	session := store.NewSession(conn.Conn())
	if err := q.choose(ctx, session, &next); err != nil || next.last {
		return next, err
	}
	if err := q.findEnd(ctx, session, &next); err != nil {
		return next, err
	}
	return q.fetch(ctx, session, next, message.NewDecoder(d.source))
}

// choose takes the target snapshot, unless it is given, and finds where the window begins, unless the pass is under way. A window
// without rows makes the page the last.
func (q *pageQuery) choose(ctx context.Context, s *store.Session, next *page) error {
	if q.target == nil {
		primary := true
		err := s.Run(ctx, store.Call{Statement: passSnapshot, Row: func(values [][]byte) (err error) {
			primary = string(values[1]) == "t"
			next.target, err = snapshot.Parse(string(values[0]))
			return err
		}})
		if err == nil && !primary {
			err = store.ErrLost
		}
		if err != nil {
			return err
		}
	} else {
		next.target = *q.target
	}
	if next.begun {
		return nil
	}
	query := store.Call{Statement: passStart, Args: store.WindowArgs(q.base)}
	if *q.lowest {
		query = store.Call{Statement: passLowest}
	}
	query.Row = func(values [][]byte) (err error) {
		if next.last = values[0] == nil; !next.last {
			next.start, err = strconv.ParseInt(string(values[0]), 10, 64)
			next.begun, next.start = true, max(next.start, math.MinInt64+1)-1
		}
		return err
	}
	err := s.Run(ctx, store.Begin, store.ByIndex, query, store.Commit)
	*q.lowest = *q.lowest || err != nil && store.IsCutOff(err)
	return err
}

// findEnd finds out how far the page goes if there is a bound on the rows that it may look at.
func (q *pageQuery) findEnd(ctx context.Context, s *store.Session, next *page) error {
	next.end = 0
	if q.scan == 0 {
		return nil
	}
	args := [][]byte{strconv.AppendInt(nil, next.start, 10), strconv.AppendInt(nil, int64(q.scan), 10)}
	return s.Run(ctx, store.Begin, store.InOrder, store.Call{Statement: passEnd, Args: args, Row: func(values [][]byte) (err error) {
		next.end, err = strconv.ParseInt(string(values[0]), 10, 64)
		return err
	}}, store.Commit)
}

// statement is the query of the page's rows, with its parameters.
func (q *pageQuery) statement(next *page) (store.Statement, [][]byte) {
	bound := next.end
	if bound == 0 {
		bound = math.MaxInt64
	}
	args := [][]byte{strconv.AppendInt(nil, next.start, 10), []byte(q.base.String()), []byte(next.target.String()),
		nil, strconv.AppendInt(nil, int64(q.rows), 10), strconv.AppendInt(nil, bound, 10)}
	if !q.sieve {
		args[3] = []byte(q.regex)
	}
	if q.exclude {
		return passPages[1].Way(q.heads), append(args, []byte(q.name))
	}
	return passPages[0].Way(q.heads), args
}

// gathered counts what a page has come to.
type gathered struct {
	seen   int // rows that the server sent,
	kept   int // and of these those that had room
	wanted int // and of these those that the filter wants
	full   bool
}

func (q *pageQuery) fetch(ctx context.Context, s *store.Session, next page, decoder *message.Decoder) (page, error) {
	var g gathered
	budget := q.bytes
	keep := func(r *message.Row) error {
		budget -= r.Arrived()
		if n := len(next.rows); budget < 0 && n > 0 && next.rows[n-1].ID != r.ID {
			g.full = true // the next page begins here
			return nil
		}
		g.kept++
		next.rows = append(next.rows[:g.wanted], r) // in place of one that was not wanted: the last row says how far the page goes
		if q.wants(r) {
			g.wanted++
		}
		return nil
	}
	decode, rest := store.ToRow(decoder, keep), store.Overflow{Most: message.MaxOverflow}
	statement, args := q.statement(&next)
	calls := []store.Call{store.Begin, store.InOrder, {Statement: statement, Args: args, Binary: true, Row: func(values [][]byte) error {
		if g.seen++; g.full {
			return rest.Add(values)
		}
		return decode(values)
	}}}
	err := s.Run(ctx, append(append(calls, q.mine...), store.Commit)...)
	q.judge(&next, g, err)
	return next, err
}

// judge says whether the page is the last, and whether most of what it came past was wanted.
func (q *pageQuery) judge(next *page, g gathered, err error) {
	if g.full || g.seen >= q.rows {
		next.end = 0 // there may be more before the end
	} else {
		next.last = err == nil && next.end == 0
	}
	switch {
	case q.sieve:
		next.dense = 2*g.wanted >= g.kept
	case g.kept > 0:
		next.dense = 2*int64(g.kept) >= next.rows[len(next.rows)-1].ID-next.start
	}
}

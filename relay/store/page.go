package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// exactStartRows is the size up to which windows are searched for their exact first id.
const exactStartRows = 20_000

// Page is some rows of a pass in ascending order of id.
type Page struct {
	Target snapshot.Snapshot
	Place  string // how far a replica must have come to be asked; empty: none is
	Fresh  bool
	Begun  bool  // Start is known
	Start  int64 // the pass reads ids above this
	Rows   []*message.Row
	End    int64 // the page has all that is wanted up to here; 0: up to its last row
	Last   bool
	Dense  bool // about half of the rows up to the page's last one were wanted, or more
}

// Reaches returns the id up to which the page has all that is wanted.
func (p *Page) Reaches() int64 {
	if p.End != 0 || len(p.Rows) == 0 {
		return max(p.End, p.Start)
	}
	return p.Rows[len(p.Rows)-1].ID
}

// PageQuery is what a page is to have.
type PageQuery struct {
	Name    string                  // of the subscription
	Base    snapshot.Snapshot       // rows that it sees are left out
	Target  *snapshot.Snapshot      // and those that it does not see; nil: the snapshot at the time of reading
	Regex   string                  // of topics, unless they are sieved here
	Wants   func(*message.Row) bool // judges rows exactly
	Sieve   bool
	Exclude bool  // leave out what is parked in the table
	Class   int16 // of the messages; 0: all
	Heads   bool  // without what the rows carry
	Rows    int   // most of them
	Scan    int   // most rows to look at; 0: any number
	Bytes   int64 // of rows, past which the next page begins
	Lowest  *bool // begin with the first row of all: to look for the window's was cut off
	Owned   Owned // the page is void once this is not ours any more; without an incarnation nobody asks
	standby bool  // it is read on one
}

const (
	unparked = `AND NOT EXISTS (
			SELECT FROM postrider.parked p WHERE p.subscription = $7::text AND p.id = o.id AND p.created_at = o.created_at)`
	ofClass = `postrider.class_of(o.priority) = `
)

var (
	passSnapshot = statement{name: "postrider_pass_snapshot", sql: `SELECT pg_current_snapshot()::text, NOT pg_is_in_recovery()`}
	// The window's first id: exact for a small window, else the first id of the segments that hold some of it.
	passStart = statement{name: "postrider_pass_start", sql: `SELECT CASE WHEN n < ` + strconv.Itoa(exactStartRows) + ` THEN lowest ELSE (
			SELECT min(s.lowest) FROM generate_series(0, 15) g (segment) CROSS JOIN LATERAL (
				SELECT o.id AS lowest FROM postrider.outbox o WHERE o.segment = g.segment::smallint ORDER BY o.id LIMIT 1) s
			WHERE EXISTS (SELECT` + fromXmax + ` AND segment = g.segment::smallint)
			   OR EXISTS (SELECT` + fromXip + ` AND segment = g.segment::smallint)) END
		FROM (SELECT min(id) AS lowest, count(*) AS n FROM (
			SELECT id FROM (SELECT id` + fromXmax + ` UNION ALL SELECT id` + fromXip + `) u LIMIT ` + strconv.Itoa(exactStartRows) + `) w) c`}
	passLowest = statement{name: "postrider_pass_lowest", sql: `SELECT id FROM postrider.outbox ORDER BY id LIMIT 1`}
	// A parameter that is not text needs its type: a cast from text would be made for each row. The regular expression costs more
	// than all the rest of a row: it is NULL while most topics match.
	passPage = `FROM postrider.outbox o
		WHERE id > $1::bigint AND NOT pg_visible_in_snapshot(xid, $2::pg_snapshot) AND pg_visible_in_snapshot(xid, $3::pg_snapshot)
		  AND ($4::text IS NULL OR topic ~ $4::text) AND id <= $6::bigint %s
		ORDER BY id FETCH FIRST ($5::bigint) ROWS WITH TIES` // an id that comes twice is read at once: the next page follows ids
	// Where a page that looks at so many rows ends, if there are as many.
	passEnd   = statement{name: "postrider_page_end", sql: `SELECT id FROM postrider.outbox WHERE id > $1::bigint ORDER BY id OFFSET $2::bigint - 1 LIMIT 1`}
	passPages = [2]reading{
		newReading("postrider_page", readColumns, fmt.Sprintf(passPage, "")),
		newReading("postrider_page_unparked", readColumns, fmt.Sprintf(passPage, unparked)),
	}
	// Of one class.
	passClass = [2]reading{
		newReading("postrider_class", readColumns, fmt.Sprintf(passPage, `AND `+ofClass+`$7::smallint`)),
		newReading("postrider_class_unparked", readColumns, fmt.Sprintf(passPage, unparked+` AND `+ofClass+`$8::smallint`)),
	}
)

// ReadPage reads the page that follows next.start, after choosing target and start if that is still to do. The first page of a pass comes
// from the primary, which most passes end with; others from the replica if there is one.
func (d *Database) ReadPage(ctx context.Context, q *PageQuery, next Page) (Page, error) {
	if d.Replica.ready(&next) {
		next.Target = *q.Target
		if page, ok := d.Replica.read(ctx, q, next, message.NewDecoder(d.Source)); ok {
			return page, d.confirm(ctx, q)
		} else if ctx.Err() != nil {
			return page, ctx.Err()
		}
	}
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return Page{}, err
	}
	defer conn.Release()
	session := NewSession(conn.Conn())
	if err := q.choose(ctx, session, &next); err != nil || next.Last {
		return next, err
	}
	if d.Replica != nil && next.Place == "" {
		if next.Place, err = d.Replica.place(ctx, session); err != nil {
			return next, err
		}
	}
	if err := q.findEnd(ctx, session, &next); err != nil {
		return next, err
	}
	return q.fetch(ctx, session, next, message.NewDecoder(d.Source), nil, q.mine())
}

// opens begins a transaction.
func (q *PageQuery) opens() call {
	if q.standby {
		return beginStandby
	}
	return begin
}

func (q *PageQuery) mine() []call {
	if q.Owned.Incarnation == "" {
		return nil
	}
	return []call{mineCall(q.Owned)}
}

// confirm asks the primary whether what a replica has shown is still ours to draw conclusions from.
func (d *Database) confirm(ctx context.Context, q *PageQuery) error {
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return NewSession(conn.Conn()).run(ctx, begin, limited, mineCall(q.Owned), commit)
}

// choose takes the target snapshot, unless it is given, and finds where the window begins, unless the pass is under way. A window
// without rows makes the page the last.
func (q *PageQuery) choose(ctx context.Context, s *Session, next *Page) error {
	if q.Target == nil {
		primary := true
		err := s.run(ctx, call{statement: passSnapshot, row: func(values [][]byte) (err error) {
			primary = string(values[1]) == "t"
			next.Target, err = snapshot.Parse(string(values[0]))
			return err
		}})
		if err == nil && !primary {
			err = ErrLost
		}
		if err != nil {
			return err
		}
	} else {
		next.Target = *q.Target
	}
	if next.Begun {
		return nil
	}
	query := call{statement: passStart, args: windowArgs(q.Base)}
	if *q.Lowest {
		query = call{statement: passLowest}
	}
	query.row = func(values [][]byte) (err error) {
		if next.Last = values[0] == nil; !next.Last {
			next.Start, err = strconv.ParseInt(string(values[0]), 10, 64)
			next.Begun, next.Start = true, max(next.Start, math.MinInt64+1)-1
		}
		return err
	}
	err := s.run(ctx, begin, byIndex, query, commit)
	*q.Lowest = *q.Lowest || err != nil && IsCutOff(err)
	return err
}

// findEnd finds out how far the page goes if there is a bound on the rows that it may look at.
func (q *PageQuery) findEnd(ctx context.Context, s *Session, next *Page) error {
	next.End = 0
	if q.Scan == 0 {
		return nil
	}
	args := [][]byte{strconv.AppendInt(nil, next.Start, 10), strconv.AppendInt(nil, int64(q.Scan), 10)}
	return s.run(ctx, q.opens(), inOrder, call{statement: passEnd, args: args, row: func(values [][]byte) (err error) {
		next.End, err = strconv.ParseInt(string(values[0]), 10, 64)
		return err
	}}, commit)
}

// statement is the query of the page's rows, with its parameters.
func (q *PageQuery) statement(next *Page) (statement, [][]byte) {
	bound := next.End
	if bound == 0 {
		bound = math.MaxInt64
	}
	args := [][]byte{strconv.AppendInt(nil, next.Start, 10), []byte(q.Base.String()), []byte(next.Target.String()),
		nil, strconv.AppendInt(nil, int64(q.Rows), 10), strconv.AppendInt(nil, bound, 10)}
	if !q.Sieve {
		args[3] = []byte(q.Regex)
	}
	pages, way := passPages, 0
	if q.Exclude {
		args, way = append(args, []byte(q.Name)), 1
	}
	if q.Class != 0 {
		args, pages = append(args, strconv.AppendInt(nil, int64(q.Class), 10)), passClass
	}
	return pages[way].way(q.Heads), args
}

// gathered counts what a page has come to.
type gathered struct {
	seen   int // rows that the server sent,
	kept   int // and of these those that had room
	wanted int // and of these those that the filter wants
	full   bool
}

// fetch reads the rows in one transaction, between the calls before and after.
func (q *PageQuery) fetch(ctx context.Context, s *Session, next Page, decoder *message.Decoder, before, after []call) (Page, error) {
	var g gathered
	budget := q.Bytes
	keep := func(r *message.Row) error {
		budget -= r.Arrived()
		if n := len(next.Rows); budget < 0 && n > 0 && next.Rows[n-1].ID != r.ID {
			g.full = true // the next page begins here
			return nil
		}
		g.kept++
		next.Rows = append(next.Rows[:g.wanted], r) // in place of one that was not wanted: the last row says how far the page goes
		if q.Wants(r) {
			g.wanted++
		}
		return nil
	}
	decode, rest := toRow(decoder, keep), overflow{most: message.MaxOverflow}
	statement, args := q.statement(&next)
	rows := call{statement: statement, args: args, binary: true, row: func(values [][]byte) error {
		if g.seen++; g.full {
			return rest.add(values)
		}
		return decode(values)
	}}
	err := s.run(ctx, slices.Concat([]call{q.opens(), inOrder}, before, []call{rows}, after, []call{commit})...)
	q.judge(&next, g, err)
	return next, err
}

// judge says whether the page is the last, and whether most of what it came past was wanted.
func (q *PageQuery) judge(next *Page, g gathered, err error) {
	if g.full || g.seen >= q.Rows {
		next.End = 0 // there may be more before the end
	} else {
		next.Last = err == nil && next.End == 0
	}
	switch {
	case q.Sieve:
		next.Dense = 2*g.wanted >= g.kept
	case g.kept > 0:
		next.Dense = 2*int64(g.kept) >= next.Rows[len(next.Rows)-1].ID-next.Start
	}
}

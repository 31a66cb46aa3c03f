package relay

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

const (
	startRows      = 256     // most rows of the first page
	startBytes     = 256     // taken for the size of its rows
	pageRows       = 4000    // most rows of a page
	maxPageBytes   = 4 << 20 // most bytes of a page
	minPageBytes   = 32 << 10
	nearRows       = 20_000 // a pass of so few rows is close enough to the present to attach to the feed
	exactStartRows = 20_000 // windows up to this size are searched for their exact first id
)

// passes is what all catching-up runners share: few read at once, and their pages have one bound.
type passes struct {
	db      database
	reading *semaphore.Weighted
	active  atomic.Int64
	single  *semaphore.Weighted // of what is read by itself
	shelf   *shelf
	losses  *losses
	limit   int64 // bytes of all pages
	largest int64 // bytes of a message
	log     *slog.Logger
	health  *health.Health
}

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

// passReader reads the table from base to target, one page ahead of its runner.
type passReader struct {
	*passes
	name    string
	filter  *filter
	base    snapshot.Snapshot
	target  *snapshot.Snapshot // nil: the snapshot at the time of reading
	afterID int64              // where a pass that was begun before goes on
	resumed bool               // it was begun before this process knew it
	exclude bool               // leave out what is parked in the table
	wake    func()
	mine    []store.Call // fails once the cursor is not ours any more
	sieve   bool         // topics are tested here, not in the database
	heads   bool         // the next page is read without what its rows carry: with it that has failed
	size    pageSize
	lowest  bool // begin with the first row of all: to look for the window's was cut off

	pages  chan page
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// start begins to read; wake is called for every page.
func (p *passReader) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.pages = make(chan page, 1)
	p.active.Add(1)
	p.done.Go(func() {
		defer p.active.Add(-1)
		p.read(ctx)
	})
}

// stop ends the reading and waits for it.
func (p *passReader) stop() {
	p.cancel()
	p.done.Wait()
}

// read retries until ctx is cancelled: what fails here is the database, whose return everything waits for.
func (p *passReader) read(ctx context.Context) {
	retry := async.ReconnectBackoff()
	next := page{fresh: !p.resumed, begun: p.resumed, start: p.afterID}
	p.size = newPageSize()
	p.size.rows = int(max(min(startRows, p.pageBytes()/startBytes), 1))
	for {
		began := time.Now()
		got, err := p.readPage(ctx, next, p.size.rows)
		if ctx.Err() != nil {
			return
		}
		if !p.heads && store.Unreadable(err) {
			p.log.Warn("catching up: a message cannot be read with the others: each is read by itself now", "subscription", p.name, "after_id", next.start, "error", err)
			p.heads, p.size.rows = true, min(p.size.rows, startRows)
			continue
		}
		if err != nil {
			if store.IsCutOff(err) && p.size.shrink(time.Since(began), time.Now()) {
				retry.Reset() // what is asked for next is another thing
			}
			p.health.Failed(health.CannotReadPage, err, p.name)
			p.wake()
			if !async.Sleep(ctx, retry.NextBackOff()) {
				return
			}
			continue
		}
		retry.Reset()
		p.health.Works(health.CannotReadPage, p.name)
		select {
		case p.pages <- got:
			p.wake()
		case <-ctx.Done():
			return
		}
		if got.last {
			return
		}
		p.size.grow(time.Since(began), time.Now(), p.fitting(got))
		if p.heads { // which tells nothing of what the rows carry
			p.heads, p.size.rows = false, min(p.size.rows, startRows)
		}
		if len(got.rows) > 0 {
			p.sieve = got.dense
		}
		p.target = &got.target
		next = page{target: got.target, fresh: got.fresh, begun: true, start: got.reaches()}
	}
}

// fitting chooses the next page's number of rows from the size of this one's.
func (p *passReader) fitting(got page) int {
	if len(got.rows) == 0 {
		return p.size.rows
	}
	var bytes int64
	for _, r := range got.rows {
		bytes += r.Arrived()
	}
	return int(min(max(p.pageBytes()*int64(len(got.rows))/bytes, 1), pageRows))
}

// reaches returns the id up to which the page has all that is wanted.
func (p *page) reaches() int64 {
	if p.end != 0 || len(p.rows) == 0 {
		return max(p.end, p.start)
	}
	return p.rows[len(p.rows)-1].ID
}

func (p *passReader) pageBytes() int64 {
	return min(max(p.limit/(2*max(p.active.Load(), 1)), minPageBytes), maxPageBytes)
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
func (p *passReader) readPage(ctx context.Context, next page, limit int) (page, error) {
	if err := p.reading.Acquire(ctx, 1); err != nil {
		return page{}, err
	}
	defer p.reading.Release(1)
	conn, err := p.db.pool.Acquire(ctx)
	if err != nil {
		return page{}, err
	}
	defer conn.Release()
	session := store.NewSession(conn.Conn())
	if err := p.choose(ctx, session, &next); err != nil || next.last {
		return next, err
	}
	if err := p.findEnd(ctx, session, &next); err != nil {
		return next, err
	}
	return p.fetch(ctx, session, next, limit)
}

// choose takes the target snapshot, unless it is given, and finds where the window begins, unless the pass is under way. A
// window without rows makes the page the last.
func (p *passReader) choose(ctx context.Context, s *store.Session, next *page) error {
	if p.target == nil {
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
		next.target = *p.target
	}
	if next.begun {
		return nil
	}
	query := store.Call{Statement: passStart, Args: store.WindowArgs(p.base)}
	if p.lowest {
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
	p.lowest = p.lowest || err != nil && store.IsCutOff(err)
	return err
}

// findEnd finds out how far the page goes if there is a bound on the rows that it may look at.
func (p *passReader) findEnd(ctx context.Context, s *store.Session, next *page) error {
	next.end = 0
	if p.size.scan == 0 {
		return nil
	}
	args := [][]byte{strconv.AppendInt(nil, next.start, 10), strconv.AppendInt(nil, int64(p.size.scan), 10)}
	return s.Run(ctx, store.Begin, store.InOrder, store.Call{Statement: passEnd, Args: args, Row: func(values [][]byte) (err error) {
		next.end, err = strconv.ParseInt(string(values[0]), 10, 64)
		return err
	}}, store.Commit)
}

func (p *passReader) fetch(ctx context.Context, s *store.Session, next page, limit int) (page, error) {
	bound := next.end
	if bound == 0 {
		bound = math.MaxInt64
	}
	args := [][]byte{strconv.AppendInt(nil, next.start, 10), []byte(p.base.String()), []byte(next.target.String()),
		nil, strconv.AppendInt(nil, int64(limit), 10), strconv.AppendInt(nil, bound, 10)}
	if !p.sieve {
		args[3] = []byte(p.filter.regex)
	}
	which := passPages[0]
	if p.exclude {
		which = passPages[1]
		args = append(args, []byte(p.name))
	}
	decoder, budget, full := message.NewDecoder(p.db.source), p.pageBytes(), false
	seen, kept, wanted := 0, 0, 0
	keep := func(r *message.Row) error {
		budget -= r.Arrived()
		if n := len(next.rows); budget < 0 && n > 0 && next.rows[n-1].ID != r.ID {
			full = true // the next page begins here
			return nil
		}
		kept++
		next.rows = append(next.rows[:wanted], r) // in place of one that was not wanted: the last row says how far the page goes
		if p.filter.wants(r) {
			wanted++
		}
		return nil
	}
	decode, rest := store.ToRow(decoder, keep), store.Overflow{Most: message.MaxOverflow}
	calls := []store.Call{store.Begin, store.InOrder, {Statement: which.Way(p.heads), Args: args, Binary: true, Row: func(values [][]byte) error {
		if seen++; full {
			return rest.Add(values)
		}
		return decode(values)
	}}}
	err := s.Run(ctx, append(append(calls, p.mine...), store.Commit)...)
	if full || seen >= limit {
		next.end = 0 // there may be more before the end
	} else {
		next.last = err == nil && next.end == 0
	}
	switch {
	case p.sieve:
		next.dense = 2*wanted >= kept
	case kept > 0:
		next.dense = 2*int64(kept) >= next.rows[len(next.rows)-1].ID-next.start
	}
	return next, err
}

// readMessage reads a message by itself, when it is its turn.
func (p *passes) readMessage(ctx context.Context, w wanted) (*message.Row, error) {
	if err := p.single.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.single.Release(1)
	return p.db.readMessage(ctx, w)
}

package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cenkalti/backoff/v4"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

const (
	startRows    = 256     // most rows of the first page
	startBytes   = 256     // taken for the size of its rows
	pageRows     = 4000    // most rows of a page
	maxPageBytes = 4 << 20 // most bytes of a page
	minPageBytes = 32 << 10
	nearRows     = 20_000 // a pass of so few rows is close enough to the present to attach to the feed
)

// Passes is what all catching-up runners share: few read at once, and their pages have one bound.
type Passes struct {
	DB      store.Database
	Reading *semaphore.Weighted
	active  atomic.Int64
	Single  *semaphore.Weighted // of what is read by itself
	Shelf   *shelf
	Losses  *Losses
	Limit   int64 // bytes of all pages
	Largest int64 // bytes of a message
	Log     *slog.Logger
	Health  *health.Health
}

// passReader reads the table from base to target, one page ahead of its runner.
type passReader struct {
	*Passes
	name    string
	filter  *Filter
	base    snapshot.Snapshot
	target  *snapshot.Snapshot // nil: the snapshot at the time of reading
	afterID int64              // where a pass that was begun before goes on
	resumed bool               // it was begun before this process knew it
	exclude bool               // leave out what is parked in the table
	wake    func()
	owned   store.Owned
	nextPage

	pages  chan store.Page
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// nextPage is how the next page is read.
type nextPage struct {
	sieve  bool // topics are tested here, not in the database
	heads  bool // without what its rows carry: with it that has failed
	size   pageSize
	lowest bool // it begins with the first row of all: to look for the window's was cut off
}

// start begins to read; wake is called for every page.
func (p *passReader) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.pages = make(chan store.Page, 1)
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
	next := store.Page{Fresh: !p.resumed, Begun: p.resumed, Start: p.afterID}
	p.size = newPageSize()
	p.size.rows = int(max(min(startRows, p.pageBytes()/startBytes), 1))
	for {
		began := time.Now()
		got, err := p.readPage(ctx, next, p.size.rows)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && p.readOtherwise(err, next):
			continue
		case err != nil:
			if p.tellFailure(err, retry, time.Since(began)); !async.Sleep(ctx, retry.NextBackOff()) {
				return
			}
			continue
		}
		retry.Reset()
		p.Health.Works(health.CannotReadPage, p.name)
		select {
		case p.pages <- got:
			p.wake()
		case <-ctx.Done():
			return
		}
		if got.Last {
			return
		}
		next = p.follow(got, time.Since(began))
	}
}

// readOtherwise reports whether the page is to be read at once in another way: without what its rows carry, which cannot be read together.
func (p *passReader) readOtherwise(err error, next store.Page) bool {
	if p.heads || !store.Unreadable(err) {
		return false
	}
	p.Log.Warn("catching up: a message cannot be read with the others: each is read by itself now", "subscription", p.name, "after_id", next.Start, "error", err)
	p.heads, p.size.rows = true, min(p.size.rows, startRows)
	return true
}

// tellFailure takes note of a page that could not be read, and asks for less next time if it took too long.
func (p *passReader) tellFailure(err error, retry backoff.BackOff, took time.Duration) {
	if store.IsCutOff(err) && p.size.shrink(took, time.Now()) {
		retry.Reset() // what is asked for next is another thing
	}
	p.Health.Failed(health.CannotReadPage, err, p.name)
	p.wake()
}

// follow returns what is asked for after this page, and chooses how.
func (p *passReader) follow(got store.Page, took time.Duration) store.Page {
	p.size.grow(took, time.Now(), p.fitting(got))
	if p.heads { // which tells nothing of what the rows carry
		p.heads, p.size.rows = false, min(p.size.rows, startRows)
	}
	if len(got.Rows) > 0 {
		p.sieve = got.Dense
	}
	p.target = &got.Target
	return store.Page{Target: got.Target, Place: got.Place, Fresh: got.Fresh, Begun: true, Start: got.Reaches()}
}

// fitting chooses the next page's number of rows from the size of this one's.
func (p *passReader) fitting(got store.Page) int {
	if len(got.Rows) == 0 {
		return p.size.rows
	}
	var bytes int64
	for _, r := range got.Rows {
		bytes += r.Arrived()
	}
	return int(min(max(p.pageBytes()*int64(len(got.Rows))/bytes, 1), pageRows))
}

func (p *passReader) pageBytes() int64 {
	return min(max(p.Limit/(2*max(p.active.Load(), 1)), minPageBytes), maxPageBytes)
}

// readPage reads the page that follows next.start, after choosing target and start if that is still to do.
func (p *passReader) readPage(ctx context.Context, next store.Page, limit int) (store.Page, error) {
	if err := p.Reading.Acquire(ctx, 1); err != nil {
		return store.Page{}, err
	}
	defer p.Reading.Release(1)
	q := store.PageQuery{Name: p.name, Base: p.base, Target: p.target, Wants: p.filter.wants, Sieve: p.sieve, Exclude: p.exclude, Class: p.filter.class, Heads: p.heads,
		Rows: limit, Scan: p.size.scan, Bytes: p.pageBytes(), Lowest: &p.lowest, Owned: p.owned}
	if !p.sieve {
		q.Regex = p.filter.regex
	}
	return p.DB.ReadPage(ctx, &q, next)
}

// readMessage reads a message by itself, when it is its turn.
func (p *Passes) readMessage(ctx context.Context, w store.Wanted) (*message.Row, error) {
	if err := p.Single.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.Single.Release(1)
	return p.DB.ReadMessage(ctx, w)
}

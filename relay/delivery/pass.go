package delivery

import (
	"context"
	"log/slog"
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

// PassReader reads the table from base to target, one page ahead of its runner.
type PassReader struct {
	*Passes
	Name    string
	Filter  *Filter
	Base    snapshot.Snapshot
	Target  *snapshot.Snapshot // nil: the snapshot at the time of reading
	afterID int64              // where a pass that was begun before goes on
	resumed bool               // it was begun before this process knew it
	Exclude bool               // leave out what is parked in the table
	Wake    func()
	Mine    []store.Call // fails once the cursor is not ours any more
	sieve   bool         // topics are tested here, not in the database
	heads   bool         // the next page is read without what its rows carry: with it that has failed
	Size    pageSize
	Lowest  bool // begin with the first row of all: to look for the window's was cut off

	Pages  chan store.Page
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Start begins to read; wake is called for every page.
func (p *PassReader) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.Pages = make(chan store.Page, 1)
	p.active.Add(1)
	p.done.Go(func() {
		defer p.active.Add(-1)
		p.read(ctx)
	})
}

// Stop ends the reading and waits for it.
func (p *PassReader) Stop() {
	p.cancel()
	p.done.Wait()
}

// read retries until ctx is cancelled: what fails here is the database, whose return everything waits for.
func (p *PassReader) read(ctx context.Context) {
	retry := async.ReconnectBackoff()
	next := store.Page{Fresh: !p.resumed, Begun: p.resumed, Start: p.afterID}
	p.Size = newPageSize()
	p.Size.rows = int(max(min(startRows, p.pageBytes()/startBytes), 1))
	for {
		began := time.Now()
		got, err := p.ReadPage(ctx, next, p.Size.rows)
		if ctx.Err() != nil {
			return
		}
		if !p.heads && store.Unreadable(err) {
			p.Log.Warn("catching up: a message cannot be read with the others: each is read by itself now", "subscription", p.Name, "after_id", next.Start, "error", err)
			p.heads, p.Size.rows = true, min(p.Size.rows, startRows)
			continue
		}
		if err != nil {
			if store.IsCutOff(err) && p.Size.shrink(time.Since(began), time.Now()) {
				retry.Reset() // what is asked for next is another thing
			}
			p.Health.Failed(health.CannotReadPage, err, p.Name)
			p.Wake()
			if !async.Sleep(ctx, retry.NextBackOff()) {
				return
			}
			continue
		}
		retry.Reset()
		p.Health.Works(health.CannotReadPage, p.Name)
		select {
		case p.Pages <- got:
			p.Wake()
		case <-ctx.Done():
			return
		}
		if got.Last {
			return
		}
		p.Size.grow(time.Since(began), time.Now(), p.fitting(got))
		if p.heads { // which tells nothing of what the rows carry
			p.heads, p.Size.rows = false, min(p.Size.rows, startRows)
		}
		if len(got.Rows) > 0 {
			p.sieve = got.Dense
		}
		p.Target = &got.Target
		next = store.Page{Target: got.Target, Fresh: got.Fresh, Begun: true, Start: got.Reaches()}
	}
}

// fitting chooses the next page's number of rows from the size of this one's.
func (p *PassReader) fitting(got store.Page) int {
	if len(got.Rows) == 0 {
		return p.Size.rows
	}
	var bytes int64
	for _, r := range got.Rows {
		bytes += r.Arrived()
	}
	return int(min(max(p.pageBytes()*int64(len(got.Rows))/bytes, 1), pageRows))
}

func (p *PassReader) pageBytes() int64 {
	return min(max(p.Limit/(2*max(p.active.Load(), 1)), minPageBytes), maxPageBytes)
}

// ReadPage reads the page that follows next.start, after choosing target and start if that is still to do.
func (p *PassReader) ReadPage(ctx context.Context, next store.Page, limit int) (store.Page, error) {
	if err := p.Reading.Acquire(ctx, 1); err != nil {
		return store.Page{}, err
	}
	defer p.Reading.Release(1)
	q := store.PageQuery{Name: p.Name, Base: p.Base, Target: p.Target, Wants: p.Filter.Wants, Sieve: p.sieve, Exclude: p.Exclude, Class: p.Filter.class, Heads: p.heads,
		Rows: limit, Scan: p.Size.Scan, Bytes: p.pageBytes(), Lowest: &p.Lowest, Mine: p.Mine}
	if !p.sieve {
		q.Regex = p.Filter.Regex
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

package relay

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// Looks at the database for metrics. Whoever collects them never waits for one, and while nobody collects none is made.
const (
	lookEvery = 15 * time.Second
	lookShare = 50 // of the time, a look has one part in so many at most
	lookMost  = 5 * time.Minute
	lookWhile = 5 * time.Minute // after somebody has collected
	lookTold  = 4               // times that long, what a look has shown is told
	pollTold  = time.Minute     // and what a poll has
)

// collecting is what is known of those who collect metrics, and what was looked up for them.
type collecting struct {
	since time.Time // the relay was made
	asked atomic.Int64
	wake  chan struct{} // has a value when somebody has asked
	last  atomic.Pointer[look]
}

// look is what one has shown.
type look struct {
	at, fresh time.Time // when it was made, until when it is told
	took      time.Duration
	status    *store.Status
}

// tells is of which subscriptions a relay tells that it does not deliver: those that are its own and have no runner, and if it is the eldest, those of
// nobody that lives.
type tells struct {
	at          time.Time
	undelivered map[string]bool // by name, whether it is paused
	paused      map[string]bool // of those that it delivers
}

// tellOf works out what this relay tells of, and lets the series go of what others tell of, or nobody. What it is about to deliver again after a
// change keeps its own.
func (o *owner) tellOf(p peers, standings map[subscription.Part]store.Standing) {
	t := &tells{at: time.Now(), undelivered: make(map[string]bool), paused: make(map[string]bool)}
	delivers := o.delivered()
	for part, at := range standings {
		free := at.Owner == nil || !has(p.counters, *at.Owner)
		switch {
		case part.Shard > 0:
		case delivers[at.Name()]:
			t.paused[at.Name()] = !at.Active
		case at.OwnedBy(o.incarnation), free && p.eldest == o.incarnation:
			t.undelivered[at.Name()] = !at.Active
		}
	}
	o.polls.tells.Store(t)
	o.metrics.Forget(func(name string) bool {
		whole := subscription.Whole(name)
		at := standings[whole]
		return !delivers[name] && !o.again[whole] && !at.OwnedBy(o.incarnation)
	})
}

// measure is what the relay knows now. It never waits.
func (r *Relay) measure() *metrics.Now {
	c := &r.collecting
	c.asked.Store(time.Now().UnixNano())
	async.Signal(c.wake)
	now := &metrics.Now{Name: strings.ToValidUTF8(r.config.Name, "?"), Version: strings.ToValidUTF8(r.config.Version, "?"), Ready: r.Ready() == nil, FeedMode: metrics.FeedIdle, Age: time.Since(c.since)}
	now.WAL.Budget, now.Memory.Limit = r.config.WALBudget, r.config.MemoryLimit
	last := c.last.Load()
	if last != nil {
		now.Age = time.Since(last.at)
	}
	g := r.now.Load()
	if g == nil {
		return now
	}
	g.measure(now)
	if last != nil && time.Now().Before(last.fresh) {
		now.Status = last.seen(now.Subscriptions)
	}
	return now
}

// measure adds what this generation knows.
func (g *generation) measure(now *metrics.Now) {
	if g.feed.Active.Load() {
		now.FeedMode = metrics.FeedTable
		if g.feed.Follows() {
			now.FeedMode = metrics.FeedStream
		}
	}
	now.WAL.Held = g.feed.HoldsBack()
	_, now.Memory.Stream = g.feed.Backlog.Holds()
	now.Memory.Queues, now.Memory.Large = g.budget.Used.Load(), g.passes.Shelf.Lent()
	t := g.polls.tells.Load()
	if t == nil {
		t = &tells{}
	}
	loads := g.loads()
	for name, load := range loads {
		now.Memory.Lanes += load.Bytes
		now.Memory.Unsaved += load.Unsaved
		now.Subscriptions = append(now.Subscriptions, metrics.Subscription{Name: name, Owned: true, Paused: t.paused[name], InFlight: load.InFlight})
	}
	if time.Since(t.at) > pollTold {
		return
	}
	for name, paused := range t.undelivered {
		if !has(loads, name) {
			now.Subscriptions = append(now.Subscriptions, metrics.Subscription{Name: name, Paused: paused})
		}
	}
}

// seen is what a look has shown of what this relay tells of now: what another one tells of since, or is gone, is left out, and so is what workers took
// in SQL then and a relay delivers now.
func (l *look) seen(now []metrics.Subscription) *metrics.Status {
	s, told := l.status, make(map[string]bool, len(now))
	for _, one := range now {
		told[one.Name] = true
	}
	to := &metrics.Status{Took: l.took, Eldest: s.Eldest, SegmentsFilled: s.SegmentsFilled, SegmentsOverdue: s.SegmentsOverdue, OutboxBytes: s.OutboxBytes,
		ParkedBytes: s.ParkedBytes, SchedulesOverdue: s.SchedulesOverdue, SchedulesInTrouble: s.SchedulesInTrouble}
	for _, at := range s.Subscriptions {
		if at.InSQL == told[at.Name] {
			continue
		}
		to.Subscriptions = append(to.Subscriptions, metrics.Looked{Name: at.Name, InSQL: at.InSQL, Paused: at.Paused, LagMessages: at.LagMessages, LagMore: at.LagMore,
			LagSeconds: at.LagSeconds, OldestSeconds: at.Oldest, Parked: at.Parked, ParkedMore: at.ParkedMore, SegmentsHeld: at.SegmentsHeld})
	}
	return to
}

// lookForMetrics looks at the database from time to time, while somebody collects, until ctx is cancelled.
func (g *generation) lookForMetrics(ctx context.Context) error {
	said := ""
	for g.told.collecting.await(ctx) {
		began := time.Now()
		status, err := g.db().Status(ctx, g.config.Retention)
		took := time.Since(began)
		next := min(max(g.config.lookEvery, g.config.lookShare*took), lookMost)
		text := ""
		switch {
		case err == nil:
			g.told.collecting.last.Store(&look{at: time.Now(), fresh: time.Now().Add(lookTold * next), took: took, status: status})
		case !dberr.Away(err) && ctx.Err() == nil:
			if text = err.Error(); text != said {
				g.log.Warn("metrics: where subscriptions stand is not known", "error", err, "next", next)
			}
		}
		said = text
		if !async.Sleep(ctx, next) {
			return nil
		}
	}
	return nil
}

// await returns true when somebody collects, false when ctx is cancelled.
func (c *collecting) await(ctx context.Context) bool {
	for time.Since(time.Unix(0, c.asked.Load())) > lookWhile {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

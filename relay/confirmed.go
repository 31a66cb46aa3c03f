package relay

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
)

// Confirmed says whether this relay is certain, at this moment, that what it delivers is its own: another one may take its cursors only
// when it has seen our row unchanged for a lease, and no lease has passed since the row was renewed, or found with no other beside it.
func (r *Relay) Confirmed() bool {
	g := r.now.Load()
	if g == nil {
		return false
	}
	return g.polls.confirmed()
}

func (p *polls) confirmed() bool {
	until := p.sure.Load()
	return until != nil && time.Now().Before(*until)
}

// isSure is confirmed for runners: who is told no is woken by wake.
func (p *polls) isSure() bool {
	if p.confirmed() {
		return true
	}
	p.lapsed.Store(true)
	return p.confirmed() // meanwhile
}

// wakeSure wakes runners that were told no, if it is otherwise now.
func (g *generation) wakeSure() {
	if g.polls.confirmed() && g.polls.lapsed.Swap(false) {
		for _, r := range g.running() {
			r.Life.Wake()
		}
	}
}

// polls is what the looks at the other relays have found.
type polls struct {
	at   atomic.Int64              // when the last one ended
	sure atomic.Pointer[time.Time] // until when nobody else may take what is ours
	// A runner was told that this was over.
	lapsed atomic.Bool

	directory atomic.Pointer[Directory] // as the last one found it
	tells     atomic.Pointer[tells]     // of which subscriptions this relay tells
	sooner    atomic.Pointer[time.Time] // when one was last made before its turn
	warned    bool                      // that workers cannot reach this relay by others
}

// showLife has other relays see that this one lives until ctx is cancelled: deliveries under way may take longer than the lease to end, and
// whoever took their cursors meanwhile would repeat them. Workers that know this relay alone are passed on to whoever has their jobs by then.
func (g *generation) showLife(ctx context.Context) {
	o := newOwner(g)
	for {
		began := time.Now()
		switch err := g.registry().Bump(ctx); {
		case err == nil:
			g.polls.confirm(began, g.config.Lease)
			if err := o.readDirectory(ctx, peers{}); err != nil && ctx.Err() == nil {
				g.log.Warn("who delivers what is not known", "error", err)
			}
		case errors.Is(err, store.ErrLost): // and with it all cursors
			return
		}
		if !async.Sleep(ctx, o.pollInterval()) {
			return
		}
	}
}

// confirm notes that our row was as it has to be at this time.
func (p *polls) confirm(at time.Time, lease time.Duration) {
	until := at.Add(lease)
	p.sure.Store(&until)
}

package relay

import (
	"context"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

const (
	callbackEvery = 500 * time.Millisecond // between reads of callbacks, while there are deliveries that wait for one
	readAtMost    = 1000                   // deliveries of a subscription in one read
)

// readCallbacks concludes deliveries that a destination had taken over, as their callbacks say or because there was none.
func (g *generation) readCallbacks(ctx context.Context) error {
	ticker := time.NewTicker(g.config.callbackEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.told.callbacks:
		case <-ticker.C:
		}
		g.readOnce(ctx)
	}
}

// readOnce reads the callbacks of all runners that wait for some.
func (g *generation) readOnce(ctx context.Context) {
	runners := g.running()
	var names []string
	for part, r := range runners {
		if r.AwaitsCallbacks() {
			names = append(names, part.Subscription)
		}
	}
	if len(names) == 0 {
		return
	}
	most := g.readMost
	found, err := g.passes.DB.ReadCallbacks(ctx, names, g.readMost)
	if err != nil {
		if ctx.Err() == nil {
			g.readFailed(names, err)
		}
		return
	}
	g.readMost = min(2*g.readMost, readAtMost)
	g.health.Works(health.CannotCallBack, names...)
	concluded := 0
	for _, c := range found {
		if runners[subscription.Whole(c.Name)].CalledBack(c, time.Now()) {
			concluded++
		}
	}
	if concluded >= most { // there may be more; what was found before waits for its save
		async.Signal(g.told.callbacks)
	}
}

// readFailed makes the next read smaller, and what fails the trouble of those who wait for it.
func (g *generation) readFailed(names []string, err error) {
	if store.IsCutOff(err) {
		g.readMost = max(g.readMost/2, 1)
	}
	g.health.Failed(health.CannotCallBack, err, names...)
}

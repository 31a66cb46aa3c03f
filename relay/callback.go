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
	callbackEvery = 500 * time.Millisecond // between looks for callbacks, while there are deliveries that wait for one
	lookAtMost    = 1000                   // deliveries of a subscription in one look
)

// lookForCallbacks concludes deliveries that a destination had taken over, as their callbacks say or because there was none.
func (g *generation) lookForCallbacks(ctx context.Context) error {
	ticker := time.NewTicker(g.config.callbackEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.look:
		case <-ticker.C:
		}
		g.lookOnce(ctx)
	}
}

// lookOnce looks for callbacks of all runners that wait for some.
func (g *generation) lookOnce(ctx context.Context) {
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
	most := g.lookMost
	found, err := g.passes.DB.LookForCallbacks(ctx, names, g.lookMost)
	if err != nil {
		if ctx.Err() == nil {
			g.lookFailed(names, err)
		}
		return
	}
	g.lookMost = min(2*g.lookMost, lookAtMost)
	g.health.Works(health.CannotCallBack, names...)
	concluded := 0
	for _, c := range found {
		if runners[subscription.Whole(c.Name)].CalledBack(c, time.Now()) {
			concluded++
		}
	}
	if concluded >= most { // there may be more; what was found before waits for its save
		async.Signal(g.look)
	}
}

// lookFailed makes the next look smaller, and what fails the trouble of those who wait for it.
func (g *generation) lookFailed(names []string, err error) {
	if store.IsCutOff(err) {
		g.lookMost = max(g.lookMost/2, 1)
	}
	g.health.Failed(health.CannotCallBack, err, names...)
}

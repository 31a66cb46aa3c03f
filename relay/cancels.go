package relay

import (
	"context"
	"time"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

const (
	cancelsAgain = 250 * time.Millisecond // before another attempt to look for them
	cancelsMost  = 1000                   // requests in one look
)

// lookForCancels hands requests to the runners of their subscriptions, each once, and nothing else is loaded. It looks when it is told that there
// are any, which is again and again until they are carried out.
func (g *generation) lookForCancels(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.told.cancels:
		}
		for g.lookForCancelsOnce(ctx) {
		}
		switch err := store.EndCancels(ctx, g.pool); {
		case err == nil:
			g.health.Works(health.CannotCancel)
		case ctx.Err() == nil:
			g.health.Failed(health.CannotCancel, err)
		}
	}
}

// lookForCancelsOnce says whether there may be more.
func (g *generation) lookForCancelsOnce(ctx context.Context) (full bool) {
	runners := g.running()
	var names []string
	var epochs []int64
	var done []store.Cancel
	for part, r := range runners {
		names, epochs = append(names, part.Subscription), append(epochs, r.Env.Cursor.Epoch)
		done = append(done, r.Cancelled()...)
	}
	if len(names) == 0 {
		return false
	}
	found, err := g.passes.DB.NewCancels(ctx, names, epochs, done, cancelsMost)
	if err != nil {
		if ctx.Err() == nil {
			g.health.Failed(health.CannotCancel, err, names...)
		}
		return false
	}
	g.health.Works(health.CannotCancel, names...)
	g.handCancels(ctx, runners, found)
	return len(found) == cancelsMost
}

func (g *generation) handCancels(ctx context.Context, runners map[subscription.Part]*delivery.Runner, found []store.Cancel) {
	bySubscription := make(map[string][]store.Cancel)
	for _, c := range found {
		bySubscription[c.Name] = append(bySubscription[c.Name], c)
	}
	for part, r := range runners {
		if list := bySubscription[part.Subscription]; len(list) > 0 {
			if unknown := r.Cancel(list); len(unknown) > 0 {
				g.cancelScheduled(ctx, r, unknown)
			}
		}
	}
}

// cancelScheduled looks for what a runner does not remember until there is an answer: each request is handed to it once.
func (g *generation) cancelScheduled(ctx context.Context, r *delivery.Runner, ids []int64) {
	for {
		rows, err := g.passes.DB.ScheduledOf(ctx, r.Env.Sub.Name, ids)
		if err == nil {
			r.CancelScheduled(rows)
			return
		}
		if ctx.Err() != nil {
			return
		}
		g.health.Failed(health.CannotCancel, err, r.Env.Sub.Name)
		if !async.Sleep(ctx, cancelsAgain) {
			return
		}
	}
}

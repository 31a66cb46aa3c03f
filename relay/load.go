package relay

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// newRunner opens the sink of a cursor that was just taken over and loads what is parked.
func (g *generation) newRunner(ctx context.Context, c cursor) (*runner, error) {
	filter, err := newFilter(c)
	if err != nil {
		return nil, &badSubscription{err}
	}
	sink, err := g.open(ctx, c.sub)
	if err != nil {
		return nil, err
	}
	if g.pool.Encoding().Unchecked() {
		sink = sinks.Wrap(sink, onlyUTF8)
	}
	r := newRunner(environment{
		sub: c.sub, cursor: c, sink: sink, feed: g.feed, passes: g.passes, budget: g.budget, log: g.log, health: g.health,
		metrics: g.metrics.Runner(c.sub.Name),
		save:    func() { async.Signal(g.saver.urgent) },
		pause:   func(reason string) { g.requestPause(c.sub.Name, reason) },
		parked:  func(state string) { g.metrics.Parked.WithLabelValues(c.sub.Name, state).Inc() },
	}, filter, sink.Limits())
	if err := r.loadParked(ctx); err != nil {
		sink.Close()
		return nil, err
	}
	return r, nil
}

// open connects to a subscription's destination.
func (g *generation) open(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
	sink, err := g.config.Open(ctx, s)
	if err != nil {
		return nil, lacks(fmt.Errorf("open sink: %w", err))
	}
	return sink, nil
}

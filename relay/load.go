package relay

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// newRunner opens the sink of a cursor that was just taken over and loads what is parked.
func (g *generation) newRunner(ctx context.Context, c store.Cursor, classes []store.Cursor) (*delivery.Runner, error) {
	filter, err := delivery.NewFilter(c, classes...)
	if err != nil {
		return nil, &badSubscription{err}
	}
	sink, err := g.open(ctx, c.Sub)
	if err != nil {
		return nil, err
	}
	if g.pool.Encoding().Unchecked() {
		sink = sinks.Wrap(sink, onlyUTF8)
	}
	r := delivery.New(delivery.Environment{
		Sub: c.Sub, Cursor: c, Classes: classes, Sink: sink, Feed: g.feed, Passes: g.passes, Budget: g.budget, Log: g.log, Health: g.health,
		Metrics:   g.metrics.Runner(c.Sub.Name),
		Save:      func() { async.Signal(g.saver.urgent) },
		Pause:     func(reason string) { g.requestPause(c.Sub.Name, reason) },
		Watch:     g.config.watch(),
		Ownership: delivery.Ownership{Joined: func() { async.Signal(g.repoll) }, Sure: g.polls.isSure},
	}, filter, sink.Limits())
	if err := r.LoadParked(ctx); err != nil {
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

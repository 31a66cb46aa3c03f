package relay

import (
	"context"
	"slices"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/store"
)

// maintain keeps the tables small until ctx is cancelled.
func (g *generation) maintain(ctx context.Context) error {
	retention := maintain.NewRetention(store.Segments{Pool: g.pool}, g.config.Retention, g.log, g.metrics)
	expiry := &maintain.Expiry{Store: store.Expiry{Pool: g.pool}, Dead: g.config.DeadRetention, Discarded: g.config.DiscardedRetention, Log: g.log, Metrics: g.metrics}
	floors := &maintain.Floors{Store: store.Floors{Pool: g.pool}, Log: g.log}
	unique := &maintain.Unique{Store: store.Unique{Pool: g.pool}, Asked: g.tell, Log: g.log}
	records := &maintain.Records{Store: store.Records{Pool: g.pool}, Keep: g.config.Retention, Log: g.log}
	events := &maintain.Events{Store: store.Events{Pool: g.pool}, Log: g.log}
	operations := &maintain.Operations{Store: store.Operations{Pool: g.pool}, Relay: g.config.Name, Asked: g.told.operations, Log: g.log}
	return maintain.Run(ctx, slices.Concat(expiry.Jobs(), unique.Jobs(), operations.Jobs(), []maintain.Job{retention.Job(), floors.Job(), records.Job(), events.Job(), g.told.lost.Job(events.Store, g.log)})...)
}

// tell wakes those whose work somebody has asked for.
func (g *generation) tell(asked store.Asked) {
	if asked.Cancels {
		async.Signal(g.told.cancels)
	}
	if asked.Operations {
		async.Signal(g.told.operations)
	}
}

package relay

import (
	"context"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/schedule"
	"github.com/postrider/postrider/relay/store"
)

// fireSchedules puts the messages of schedules into the outbox, beside other relays, until ctx is cancelled.
func (g *generation) fireSchedules(ctx context.Context) error {
	s := &schedule.Scheduler{Store: store.Schedules{Pool: g.pool}, Log: g.log, Fired: g.metrics.Fired, Missed: g.metrics.Missed, Report: func(err error) {
		if err != nil {
			g.health.Failed(health.CannotFire, err)
			return
		}
		g.health.Works(health.CannotFire)
	}}
	return s.Run(ctx)
}

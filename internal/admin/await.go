package admin

import (
	"context"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/states"
)

// SettledStatuses are those of what is over.
var SettledStatuses = append(states.Names(func(s states.State) bool { return s.Over }), states.Delivered)

// Settled says whether the message is settled for all that it was asked for: nothing comes any more, unless somebody redrives it.
func (m *Deliveries) Settled() bool {
	for _, d := range m.List {
		if !slices.Contains(SettledStatuses, d.Status) {
			return false
		}
	}
	return true
}

// AwaitMessage is ShowMessage once the message is settled, or after a time. It looks again and again, ever less often: up to half a second apart.
func AwaitMessage(ctx context.Context, db Querier, id int64, subscription string, wait time.Duration) (m Deliveries, err error) {
	until := time.After(wait)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if m, err = ShowMessage(ctx, db, id, subscription); err != nil || wait == 0 || m.Settled() {
			return m, err
		}
		select {
		case <-time.After(pause):
		case <-until:
			return m, nil
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}

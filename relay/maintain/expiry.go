package maintain

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

const (
	// ExpiryBatch is how many messages are looked at in one transaction.
	ExpiryBatch = 1000
	// expiryMost is the longest time between two turns.
	expiryMost = 5 * time.Minute
)

// Expiry removes dead letters, discarded and cancelled messages that are past their retention, of all subscriptions, whoever delivers them. It
// touches only what no runner remembers, and leaves alone:
//   - what the outbox still holds: without its row it would count as delivered, and a replay would bring it back
//   - dead letters of a subscription with on_dead: hold, whose keys wait for a decision
type Expiry struct {
	Store     store.Expiry
	Dead      time.Duration // the retention of dead letters; 0: they stay for ever
	Discarded time.Duration // and of discarded and cancelled messages
	Log       *slog.Logger
	Metrics   *metrics.Metrics
}

// retentions returns how long what goes at all stays, by state.
func (e *Expiry) retentions() map[string]time.Duration {
	r := map[string]time.Duration{states.Dead: e.Dead, states.Discarded: e.Discarded, states.Cancelled: e.Discarded}
	maps.DeleteFunc(r, func(_ string, d time.Duration) bool { return d == 0 })
	return r
}

// Jobs is the expiry as a job; none if everything stays for ever.
func (e *Expiry) Jobs() []Job {
	retentions := e.retentions()
	if len(retentions) == 0 {
		return nil
	}
	shortest := slices.Min(slices.Collect(maps.Values(retentions)))
	return []Job{{every: min(max(shortest/16, time.Second), expiryMost), turn: func(ctx context.Context) {
		for state, retention := range retentions {
			gone, err := e.expire(ctx, state, retention)
			e.tell(state, retention, gone)
			if err != nil && ctx.Err() == nil {
				e.Log.Warn("messages past their retention not removed", "state", state, "error", err)
			}
		}
	}}}
}

// tell logs once what a turn has removed.
func (e *Expiry) tell(state string, retention time.Duration, gone map[string]int64) {
	var total int64
	var parts []any
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		total += gone[name]
		if len(parts) < 10 {
			parts = append(parts, slog.Int64(name, gone[name]))
		}
	}
	if total == 0 {
		return
	}
	e.Metrics.Expired.WithLabelValues(state).Add(float64(total))
	e.Log.Info(state+" messages past their retention removed", "messages", total, "retention", retention, "subscriptions", len(gone),
		slog.Group("first", parts...))
}

// expire removes what is past the retention, in batches, and returns how many of each subscription.
func (e *Expiry) expire(ctx context.Context, state string, retention time.Duration) (map[string]int64, error) {
	removed := make(map[string]int64)
	at := store.BeforeAll()
	for {
		next, looked, names, err := e.Store.Remove(ctx, state, retention, at, ExpiryBatch)
		if err != nil {
			return removed, err
		}
		for _, name := range names {
			removed[name]++
		}
		if looked < ExpiryBatch {
			return removed, nil
		}
		at = next
	}
}

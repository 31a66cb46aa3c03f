package relay

import (
	"maps"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/subscription"
)

// track starts a runner.
func (g *generation) track(r *delivery.Runner) {
	g.mu.Lock()
	g.runners[r.Part()] = r
	g.metrics.Owned.Set(float64(len(g.runners)))
	g.mu.Unlock()
	g.saver.add(r)
	r.Start(g.life)
}

// running returns the runners that are not being stopped.
func (g *generation) running() map[subscription.Part]*delivery.Runner {
	g.mu.Lock()
	defer g.mu.Unlock()
	rs := maps.Clone(g.runners)
	for part := range g.ending {
		delete(rs, part)
	}
	return rs
}

// stopping returns the parts whose runners are.
func (g *generation) stopping() map[subscription.Part]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.ending)
}

func (g *generation) has(part subscription.Part) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.runners[part] != nil
}

// hasAny says whether some part of a subscription has a runner.
func (g *generation) hasAny(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for part := range g.runners {
		if part.Subscription == name {
			return true
		}
	}
	return false
}

// delivered are the subscriptions of which some part has a runner.
func (g *generation) delivered() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := make(map[string]bool, len(g.runners))
	for part := range g.runners {
		names[part.Subscription] = true
	}
	return names
}

// loads says what the runners have under way, by subscription.
func (g *generation) loads() map[string]delivery.Load {
	g.mu.Lock()
	runners := maps.Clone(g.runners)
	g.mu.Unlock()
	loads := make(map[string]delivery.Load, len(runners))
	for part, r := range runners {
		load, sum := r.Load(), loads[part.Subscription]
		loads[part.Subscription] = delivery.Load{InFlight: sum.InFlight + load.InFlight, Bytes: sum.Bytes + load.Bytes, Unsaved: sum.Unsaved + load.Unsaved}
	}
	return loads
}

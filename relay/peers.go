package relay

import (
	"context"
	"maps"
	"time"

	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

func (o *owner) readPeers(ctx context.Context) (peers, error) {
	p := peers{counters: make(map[string]int64), names: make(map[string]string), unable: make(map[string]map[string]int64)}
	all, err := o.registry().Peers(ctx)
	if len(all) > 0 {
		p.eldest = all[0].Incarnation
	}
	for _, peer := range all {
		p.counters[peer.Incarnation], p.names[peer.Incarnation] = peer.Counter, peer.Name
		if peer.Unable != nil {
			p.unable[peer.Incarnation] = peer.Unable
		}
	}
	return p, err
}

// watchPeers bumps the own counter while there is somebody to see it, and removes the rows of relays that are silent.
func (o *owner) watchPeers(ctx context.Context, p peers) error {
	now := time.Now()
	met, silent := o.observe(p, now)
	for _, other := range silent {
		o.log.Warn("another relay is silent: its cursors are free", "relay", p.names[other], "incarnation", Short(other), "lease", o.config.Lease)
		if err := o.registry().Bury(ctx, other, p.counters[other]); err != nil {
			return err
		}
		delete(p.counters, other)
		delete(o.others, other)
	}
	if err := o.compare(ctx, met); err != nil {
		return err
	}
	every := o.config.Lease / 3
	if len(p.counters) < 2 { // nobody looks at the counter; but where our sessions do not show who we are, the time has to
		if o.hasOwnName {
			return nil
		}
		every = aloneBump
	}
	if now.Sub(o.bumped) < every-o.pollInterval()/2 {
		return nil
	}
	o.bumped = now
	return o.bump(ctx)
}

// observe notes which counters have changed. It returns the relays that were not known before, and those that have been silent for a lease.
func (o *owner) observe(p peers, now time.Time) (met, silent []string) {
	for other, counter := range p.counters {
		w, known := o.others[other]
		switch {
		case other == o.incarnation:
		case !known || w.counter != counter:
			o.others[other] = watched{counter, now}
			if !known {
				met = append(met, other)
			}
		case now.Sub(w.since) >= o.config.Lease:
			silent = append(silent, other)
		}
	}
	maps.DeleteFunc(o.others, func(other string, _ watched) bool { return !has(p.counters, other) })
	return met, silent
}

func (o *owner) bump(ctx context.Context) error {
	if err := o.registry().Bump(ctx); err != nil {
		return err
	}
	o.polls.confirm(o.bumped, o.config.Lease)
	return nil
}

func (o *owner) readStandings(ctx context.Context) (map[subscription.Part]store.Standing, error) {
	all, err := o.db().Standings(ctx)
	standings := make(map[subscription.Part]store.Standing, len(all))
	for _, s := range all {
		standings[s.Part] = s
	}
	return standings, err
}

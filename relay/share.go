package relay

import (
	"maps"

	"github.com/postrider/postrider/relay/balance"
)

// lacks says whether a relay cannot deliver a subscription, as far as is known.
func (p peers) lacks(relay string, at standing) bool {
	version, not := p.unable[relay][at.name]
	return not && version == at.version
}

// able counts the relays that can deliver a subscription.
func (p peers) able(at standing) (n int) {
	for relay := range p.counters {
		if !p.lacks(relay, at) {
			n++
		}
	}
	return n
}

// shares says who should have each active cursor that should change hands or is nobody's. All relays compute it from the same rows, each
// by itself.
func (p peers) shares(standings map[string]standing) map[string]string {
	var relays []string
	lacking := make(map[string][]string)
	for relay := range p.counters {
		relays = append(relays, relay)
		for name := range p.unable[relay] {
			if at, exists := standings[name]; exists && p.lacks(relay, at) {
				lacking[name] = append(lacking[name], relay)
			}
		}
	}
	var cursors []balance.Cursor
	for name, at := range standings {
		if !at.active {
			continue
		}
		c := balance.Cursor{Name: name, Lacking: lacking[name]}
		if at.owner != nil {
			c.Owner = *at.owner
		}
		cursors = append(cursors, c)
	}
	return balance.Plan(relays, cursors)
}

// tellMine completes what is known of all relays with what this one cannot deliver, which its row may not say yet.
func (o *owner) tellMine(p peers) {
	mine := make(map[string]int64)
	for name, u := range o.cannot() {
		mine[name] = u.Version
	}
	p.unable[o.incarnation] = mine
}

// expected is the cursors as they will be when this relay has carried out what it began: what it is handing over is nobody's, and what it
// has let go for a change is its own, so that it is not given away for nothing.
func (o *owner) expected(standings map[string]standing) map[string]standing {
	running, stopping := o.running(), o.stopping()
	maps.DeleteFunc(o.handed, func(name string, _ bool) bool {
		at := standings[name]
		return running[name] != nil || !stopping[name] && !at.ownedBy(o.incarnation)
	})
	maps.DeleteFunc(o.again, func(name string, _ bool) bool {
		at := standings[name]
		return running[name] != nil || !at.active || at.owner != nil && !at.ownedBy(o.incarnation)
	})
	expected := maps.Clone(standings)
	for name := range o.handed {
		at := expected[name]
		at.owner = nil
		expected[name] = at
	}
	for name := range o.again {
		at := expected[name]
		at.owner = &o.incarnation
		expected[name] = at
	}
	return expected
}

// share lets go what another relay should have.
func (o *owner) share(shares map[string]string) {
	for name, r := range o.running() {
		if to, moves := shares[name]; moves && to != o.incarnation {
			o.log.Info("handing a subscription to another relay", "subscription", name, "to", Short(to))
			o.handed[name] = true
			o.stopRunner(r)
		}
	}
}

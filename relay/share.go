package relay

import (
	"iter"
	"maps"

	"github.com/postrider/postrider/relay/balance"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// lacks says whether a relay cannot deliver a subscription, as far as is known.
func (p peers) lacks(relay string, at store.Standing) bool {
	version, not := p.unable[relay][at.Name()]
	return not && version == at.Version
}

// able counts the relays that can deliver a subscription.
func (p peers) able(at store.Standing) (n int) {
	for relay := range p.counters {
		if !p.lacks(relay, at) {
			n++
		}
	}
	return n
}

// shares says who should have each active cursor that should change hands or is nobody's. All relays compute it from the same rows, each
// by itself.
func (p peers) shares(standings map[subscription.Part]store.Standing) map[subscription.Part]string {
	var relays, picky []string
	for relay := range p.counters {
		relays = append(relays, relay)
		if len(p.unable[relay]) > 0 {
			picky = append(picky, relay)
		}
	}
	var cursors []balance.Cursor
	parts := make(map[string]subscription.Part, len(standings))
	for part, at := range standings {
		if !at.Active {
			continue
		}
		c := balance.Cursor{Name: part.String()}
		for _, relay := range picky {
			if p.lacks(relay, at) {
				c.Lacking = append(c.Lacking, relay)
			}
		}
		if at.Owner != nil {
			c.Owner = *at.Owner
		}
		parts[c.Name] = part
		cursors = append(cursors, c)
	}
	to := make(map[subscription.Part]string)
	for name, relay := range balance.Plan(relays, cursors) {
		to[parts[name]] = relay
	}
	return to
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
func (o *owner) expected(standings map[subscription.Part]store.Standing) map[subscription.Part]store.Standing {
	running, stopping := o.running(), o.stopping()
	maps.DeleteFunc(o.handed, func(part subscription.Part, _ bool) bool {
		at := standings[part]
		return running[part] != nil || !stopping[part] && !at.OwnedBy(o.incarnation)
	})
	maps.DeleteFunc(o.again, func(part subscription.Part, _ bool) bool {
		at := standings[part]
		return running[part] != nil || !at.Active || at.Owner != nil && !at.OwnedBy(o.incarnation)
	})
	expected := maps.Clone(standings)
	for part := range o.handed {
		at := expected[part]
		at.Owner = nil
		expected[part] = at
	}
	for part := range o.again {
		at := expected[part]
		at.Owner = &o.incarnation
		expected[part] = at
	}
	return expected
}

// share stops delivering what another relay should have, and releases it.
func (o *owner) share(shares map[subscription.Part]string) {
	for part, r := range o.running() {
		if to, moves := shares[part]; moves && to != o.incarnation {
			o.log.Info("handing a subscription to another relay", "subscription", part.String(), "to", Short(to))
			o.handed[part] = true
			o.stopRunner(r)
		}
	}
}

// deliversAny says whether some part of a subscription is this relay's to deliver.
func (o *owner) deliversAny(standings map[subscription.Part]store.Standing, name string) bool {
	for _, at := range partsOf(standings, name) {
		if at.Active && at.OwnedBy(o.incarnation) {
			return true
		}
	}
	return false
}

// partsOf yields the parts of a subscription. Shards are numbered from 0 on.
func partsOf(standings map[subscription.Part]store.Standing, name string) iter.Seq2[subscription.Part, store.Standing] {
	return func(yield func(subscription.Part, store.Standing) bool) {
		for part := subscription.Whole(name); ; part.Shard++ {
			if at, exists := standings[part]; !exists || !yield(part, at) {
				return
			}
		}
	}
}

package balance

import (
	"cmp"
	"math"
	"slices"
)

// improve spares whoever can be spared most, and says whether there was something to better.
func (p *plan) improve() bool {
	if len(p.relays) == 0 {
		return false
	}
	least := slices.Min(p.load)
	for _, from := range p.sources() {
		if gap := p.weight(from) - least; gap < 1 || gap == 1 && p.moved == 0 {
			return false // nor can those be spared that have fewer
		}
		r := p.search(from)
		if to, ok := p.best(r); ok {
			p.shift(r, to)
			return true
		}
	}
	return false
}

// sources returns the places that have something, in the order in which they are to be spared.
func (p *plan) sources() (from []int) {
	for i := range p.has {
		if len(p.has[i]) > 0 {
			from = append(from, i)
		}
	}
	slices.SortStableFunc(from, func(a, b int) int { return cmp.Compare(p.weight(b), p.weight(a)) })
	return from
}

func (p *plan) weight(place int) int {
	if place == p.nobody {
		return math.MaxInt
	}
	return p.load[place]
}

// routes are the cheapest chains of hand-overs from one place to every relay.
type routes struct {
	from int
	cost []int // by relay: hand-overs more or fewer, and among equals the length of the chain; unreachable: as that says
	via  []hop // by relay: the last hand-over of the chain
}

type hop struct{ from, kind int }

const unreachable = math.MaxInt

// search finds the cheapest chains. A hand-over costs one, or brings one back where the plan had moved the cursor away from its owner; what
// is nobody's or has been moved costs nothing. As the plan so far is itself the cheapest for its loads, no circle costs less than
// nothing, and the search ends.
func (p *plan) search(from int) routes {
	r := routes{from: from, cost: make([]int, len(p.relays)+1), via: make([]hop, len(p.relays)+1)}
	for i := range r.cost {
		r.cost[i] = unreachable
	}
	r.cost[from] = 0
	unit := len(p.relays) + 2 // longer than every chain
	waiting := []int{from}
	queued := make([]bool, len(p.relays)+1)
	for len(waiting) > 0 {
		at := waiting[0]
		waiting, queued[at] = waiting[1:], false
		for _, b := range p.has[at] {
			for _, next := range p.kinds[b.kind].able {
				cost := r.cost[at] + unit*p.price(b.kind, at, next) + 1
				if next == at || cost >= r.cost[next] {
					continue
				}
				r.cost[next], r.via[next] = cost, hop{at, b.kind}
				if !queued[next] {
					waiting, queued[next] = append(waiting, next), true
				}
			}
		}
	}
	return r
}

// price is how many hand-overs more a plan has after a cursor went from one place to another.
func (p *plan) price(kind, from, to int) int {
	switch p.kinds[kind].home {
	case p.nobody:
		return 0
	case from:
		return 1
	case to:
		return -1
	}
	return 0
}

// best chooses where a chain should lead: to who has least, and then by what it costs. Between two whose loads differ by one
// it only changes names, which is worth it where that spares hand-overs.
func (p *plan) best(r routes) (to int, ok bool) {
	for i := range p.relays {
		if r.cost[i] == unreachable || i == r.from {
			continue
		}
		if gap := p.weight(r.from) - p.load[i]; gap < 1 || gap == 1 && r.cost[i] >= 0 {
			continue
		}
		if !ok || p.load[i] < p.load[to] || p.load[i] == p.load[to] && r.cost[i] < r.cost[to] {
			to, ok = i, true
		}
	}
	return to, ok
}

// shift makes the hand-overs of a chain: several at once where there is much to even out.
func (p *plan) shift(r routes, to int) {
	var chain []hop
	n := p.much(r.from, to)
	for at := to; at != r.from; at = r.via[at].from {
		h := r.via[at]
		chain = append(chain, h)
		for _, b := range p.has[h.from] {
			if b.kind == h.kind {
				n = min(n, len(b.names))
			}
		}
	}
	at := to
	for _, h := range chain {
		p.put(at, h.kind, p.take(h.from, h.kind, n)...)
		p.moved += n * p.price(h.kind, h.from, at)
		at = h.from
	}
	if p.load[to] += n; r.from != p.nobody {
		p.load[r.from] -= n
	}
}

// much is how many cursors may go at once without going too far: what others could take as well is left to them.
func (p *plan) much(from, to int) int {
	gap := 0
	if from == p.nobody {
		for _, b := range p.has[from] {
			gap += len(b.names)
		}
	} else {
		gap = p.load[from] - p.load[to]
	}
	return max(1, gap/(2*len(p.relays)))
}

package relay

import (
	"cmp"
	"math"
	"slices"
)

// shares says which relay should have how many of the active cursors. All relays compute it from the same rows, each by itself.
//
// A relay's share is made of equal parts of what it can deliver: a subscription that n relays can deliver counts 1/n for each of
// them. So cursors could always be spread with no relay above its share, rounded up; each hands over only what another has room for,
// so that one may stay a little above it where relays lack different things.
type shares struct {
	able map[string]int              // by subscription: how many relays can deliver it
	not  map[string]map[string]int64 // by relay: the versions of the subscriptions that it cannot deliver
	room map[string]int              // by relay: its share less what it has
	part map[string]int              // by relay: its share
}

// newShares takes what this relay cannot deliver from its memory, what others cannot from their rows.
func newShares(p peers, standings map[string]standing) *shares {
	s := &shares{able: make(map[string]int), not: p.unable, room: make(map[string]int), part: make(map[string]int)}
	sums := make(map[string]float64, len(p.counters))
	for name, at := range standings {
		if !at.active {
			continue
		}
		n := 0
		for relay := range p.counters {
			if s.can(relay, at) {
				n++
			}
		}
		s.able[name] = n
		for relay := range p.counters {
			if s.can(relay, at) {
				sums[relay] += 1 / float64(n)
			}
		}
		if at.owner != nil {
			s.room[*at.owner]--
		}
	}
	for relay := range p.counters {
		s.part[relay] = int(math.Ceil(sums[relay] - 1e-6))
		s.room[relay] += s.part[relay]
	}
	return s
}

// can says whether a relay can deliver a subscription, as far as is known.
func (s *shares) can(relay string, at standing) bool {
	version, not := s.not[relay][at.name]
	return !not || version != at.version
}

// taker returns a relay other than me that can deliver a subscription and has less than its share.
func (s *shares) taker(me string, at standing) (relay string, ok bool) {
	for relay := range s.part {
		if relay != me && s.room[relay] > 0 && s.can(relay, at) {
			return relay, true
		}
	}
	return "", false
}

// pick chooses what a relay takes of the free cursors that it can deliver: up to its room, first those that few others can take,
// and beyond it those that nobody with room can take.
func (s *shares) pick(me string, room int, free []standing) []standing {
	slices.SortStableFunc(free, func(a, b standing) int { return cmp.Compare(s.able[a.name], s.able[b.name]) })
	taken := free[:min(max(room, 0), len(free))]
	for _, at := range free[len(taken):] {
		if _, ok := s.taker(me, at); !ok {
			taken = append(taken[:len(taken):len(taken)], at)
		}
	}
	return taken
}

package limits

import (
	"cmp"
	"slices"
	"time"
)

// Limit is what may be out at once and begin in a time. Zero values do not limit.
type Limit struct {
	InFlight int
	Rate     Rate
}

// Limiter keeps the limits of one subscription. It is not safe for concurrent use.
type Limiter struct {
	all    bound
	per    Limit
	values map[string]*Value
	none   *Value
	prune  int // values at which idle ones are forgotten

	turns int       // that values have had
	until time.Time // when a rate lets something go that was kept back in this round
	kept  bool      // something was kept back in this round

	shares []*Value // of Share
	shared int      // number of the last Share
	crowd  *Value   // the one of which the most was kept back by its own limits
}

// Value is one of those that share the limits, with its own. The zero value of a pointer stands for none.
type Value struct {
	Name   string
	bound  bound
	joined int // messages that wait or are out
	turn   int // when it was served the last time
	seen   int // the Share that it takes part in
	wants  int
	share  int
}

// New makes a limiter, for all messages and for those of each value.
func New(all, per Limit) *Limiter {
	l := &Limiter{all: newBound(all), per: per, values: make(map[string]*Value), prune: 1024}
	l.none = &Value{}
	return l
}

func newBound(l Limit) bound { return bound{most: l.InFlight, bucket: newBucket(l.Rate)} }

// Join returns the value of a message that will be delivered some time, until Leave. Messages without one share the name "", which has
// no limits of its own.
func (l *Limiter) Join(name string, now time.Time) *Value {
	if name == "" {
		return l.none
	}
	v := l.values[name]
	if v == nil {
		l.forget(now)
		v = &Value{Name: name, bound: newBound(l.per)}
		l.values[name] = v
	}
	v.joined++
	return v
}

// Leave undoes Join.
func (l *Limiter) Leave(v *Value) { v.joined-- }

// forget drops values of which nothing is left, when there are many.
func (l *Limiter) forget(now time.Time) {
	if len(l.values) < l.prune {
		return
	}
	for name, v := range l.values {
		if v.joined == 0 && v.bound.out == 0 && !v.bound.bucket.next.After(now) {
			delete(l.values, name)
		}
	}
	l.prune = max(2*len(l.values), 1024)
}

// Round begins to check anew what may go.
func (l *Limiter) Round() { l.until, l.kept = time.Time{}, false }

// Room returns how many may begin now, at most so many as asked for, whatever their values.
func (l *Limiter) Room(now time.Time, most int) int {
	n := l.all.room(now, most, &l.until)
	l.kept = l.kept || n == 0
	return n
}

// Share divides what may begin now, so many at most, among messages of these values: Take then lets as many go. It returns how many that are.
func (l *Limiter) Share(now time.Time, most int, waiting func(yield func(*Value) bool)) (n int) {
	l.shared++
	l.shares = l.shares[:0]
	for v := range waiting {
		if v.seen != l.shared {
			v.seen, v.wants, v.share = l.shared, 0, 0
			l.shares = append(l.shares, v)
		}
		v.wants++
	}
	slices.SortFunc(l.shares, func(a, b *Value) int { return cmp.Compare(a.turn, b.turn) })
	most = l.Room(now, most)
	l.crowd = nil
	for _, v := range l.shares {
		most := v.wants
		if v.wants = v.bound.room(now, most, &l.until); v.wants < most {
			l.kept = true
			if l.crowd == nil || v.joined-v.bound.out > l.crowd.joined-l.crowd.bound.out {
				l.crowd = v
			}
		}
	}
	for round := 1; n < most; round++ {
		given := n
		for _, v := range l.shares {
			if n < most && v.wants >= round {
				v.share++
				n++
			}
		}
		if n == given {
			break
		}
	}
	return n
}

// May says whether one more message of the value may begin now.
func (l *Limiter) May(v *Value, now time.Time) bool {
	ok := l.all.room(now, 1, &l.until) > 0 && v.bound.room(now, 1, &l.until) > 0
	l.kept = l.kept || !ok
	return ok
}

// Shared says whether the last Share lets one more of the value go.
func (l *Limiter) Shared(v *Value) bool { return v.seen == l.shared && v.share > 0 }

// Begin takes note that one of the value begins.
func (l *Limiter) Begin(v *Value, now time.Time) {
	l.turns++
	v.turn = l.turns
	v.share--
	l.all.begin(now)
	v.bound.begin(now)
}

// Resume takes note of one that is out already.
func (l *Limiter) Resume(v *Value) {
	l.all.out++
	v.bound.out++
}

// End takes note that one of the value is out no more.
func (l *Limiter) End(v *Value) {
	l.all.out--
	v.bound.out--
}

// Until returns when to check again at the latest what was kept back in this round; zero if no rate keeps anything back.
func (l *Limiter) Until() time.Time { return l.until }

// KeptBack says whether anything was kept back in this round.
func (l *Limiter) KeptBack() bool { return l.kept }

// Crowd returns the value of which the last Share kept back the most by limits of its own, "" if it kept back none.
func (l *Limiter) Crowd() string {
	if l.crowd == nil {
		return ""
	}
	return l.crowd.Name
}

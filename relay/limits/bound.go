package limits

import "time"

// Rate is how many may begin in a time. With a Count of 0 it is none.
type Rate struct {
	Count int
	Per   time.Duration
}

// together is the time whose worth of a rate may begin at once.
const together = 100 * time.Millisecond

// bucket keeps a rate (the generic cell rate algorithm: one time stands for all its tokens).
type bucket struct {
	each  time.Duration // between two that begin in the long run; 0: no rate
	ahead time.Duration // how far the next one may be before its time
	next  time.Time     // the time of the next one, in the long run
}

func newBucket(r Rate) bucket {
	if r.Count == 0 {
		return bucket{}
	}
	each := max((r.Per+time.Duration(r.Count)-1)/time.Duration(r.Count), 1) // rounded up: never more than the rate
	return bucket{each: each, ahead: max(together/each-1, 0) * each}
}

// tokens returns how many may begin now, at most so many as asked for.
func (b *bucket) tokens(now time.Time, most int) int {
	switch early := b.next.Sub(now); {
	case b.each == 0:
		return most
	case early <= 0:
		return min(most, int(b.ahead/b.each)+1)
	case early > b.ahead:
		return 0
	default:
		return min(most, int((b.ahead-early)/b.each)+1)
	}
}

// take takes note that one begins.
func (b *bucket) take(now time.Time) {
	if b.each == 0 {
		return
	}
	if b.next.Before(now) {
		b.next = now
	}
	b.next = b.next.Add(b.each)
}

// opens is when one may begin, if none may now.
func (b *bucket) opens() time.Time { return b.next.Add(-b.ahead) }

// bound is a limit of either kind, and what counts towards it.
type bound struct {
	most   int // out at once; 0: as many as there are
	out    int
	bucket bucket
}

// room returns how many may begin now, at most so many as asked for; if a rate keeps others back, until gets when it lets the next one go.
func (b *bound) room(now time.Time, most int, until *time.Time) int {
	if b.most > 0 {
		most = min(most, b.most-b.out)
	}
	if most <= 0 {
		return 0
	}
	n := b.bucket.tokens(now, most)
	if n == 0 {
		if opens := b.bucket.opens(); until.IsZero() || opens.Before(*until) {
			*until = opens
		}
	}
	return n
}

func (b *bound) begin(now time.Time) {
	b.out++
	b.bucket.take(now)
}

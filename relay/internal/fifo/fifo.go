package fifo

// Queue is a queue in an array that it uses again and again.
type Queue[T any] struct {
	items []T
	head  int // what lies before it has been dropped
}

// keepItems bounds the array that an empty fifo keeps.
const keepItems = 1024

func (q *Queue[T]) Len() int { return len(q.items) - q.head }

// All returns what is queued, the oldest first; it is valid until the next push.
func (q *Queue[T]) All() []T { return q.items[q.head:] }

func (q *Queue[T]) Push(x T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, x)
}

// Drop removes the n oldest.
func (q *Queue[T]) Drop(n int) {
	clear(q.items[q.head : q.head+n])
	if q.head += n; q.head == len(q.items) {
		q.items, q.head = Emptied(q.items), 0
	}
}

// Emptied returns the slice's array, unless that is too large to keep, for new items. The caller has cleared it.
func Emptied[T any](s []T) []T {
	if cap(s) > keepItems {
		return nil
	}
	return s[:0]
}

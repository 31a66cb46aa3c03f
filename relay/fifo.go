package relay

// fifo is a queue in an array that it uses again and again.
type fifo[T any] struct {
	items []T
	head  int // what lies before it has been dropped
}

// keepItems bounds the array that an empty fifo keeps.
const keepItems = 1024

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// all returns what is queued, the oldest first; it is valid until the next push.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(x T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, x)
}

// drop removes the n oldest.
func (q *fifo[T]) drop(n int) {
	clear(q.items[q.head : q.head+n])
	if q.head += n; q.head == len(q.items) {
		q.items, q.head = emptied(q.items), 0
	}
}

// emptied returns the slice's array, unless that is too large to keep, for new items. The caller has cleared it.
func emptied[T any](s []T) []T {
	if cap(s) > keepItems {
		return nil
	}
	return s[:0]
}

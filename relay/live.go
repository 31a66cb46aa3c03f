package relay

import (
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// liveRow is a message on its way from the feed to a runner.
type liveRow struct {
	row *message.Row
	win *snapshot.Window
}

// budget bounds the bytes that all queues hold together, so that a thousand slow subscriptions cost no more than one.
type budget struct {
	limit  int64
	used   atomic.Int64
	queues atomic.Int64
}

// allows says whether a queue that holds own bytes may take more: always up to its fair share, else while there is room.
func (b *budget) allows(own, more int64) bool {
	return own+more <= b.share() || b.used.Load()+more <= b.limit && own+more <= b.limit/4
}

func (b *budget) share() int64 { return b.limit / max(b.queues.Load(), 1) }

// queue carries messages from the feed to one live runner. Once it has refused a message it takes no more: a queue holds a
// prefix of what the feed dispatched and never has a hole.
type queue struct {
	match  *topic.Matcher
	budget *budget
	wake   func()         // tells the runner that something changed
	ended  *atomic.Bool   // tells the feed that some queue has ended
	staged []*message.Row // the feed's: about to be pushed
	taken  []liveRow      // the runner's: the array of take

	mu       sync.Mutex
	rows     fifo.Queue[liveRow]
	bytes    int64
	refused  bool
	lost     *snapshot.Window // of the first message that was refused
	attached bool
	target   snapshot.Closed // where the queue begins
}

// maxQueued bounds the messages in one queue.
const maxQueued = 20_000

func newQueue(match *topic.Matcher, b *budget, wake func(), ended *atomic.Bool) *queue {
	b.queues.Add(1)
	return &queue{match: match, budget: b, wake: wake, ended: ended}
}

// attach says from where on the queue is complete.
func (q *queue) attach(at snapshot.Closed) {
	q.mu.Lock()
	q.attached, q.target = true, at
	q.mu.Unlock()
	q.wake()
}

// push takes the window's messages, up to the first that it refuses.
func (q *queue) push(rows []*message.Row, w *snapshot.Window) {
	q.mu.Lock()
	if q.refused {
		q.mu.Unlock()
		return
	}
	first := q.rows.Len() == 0
	var size int64
	for _, r := range rows {
		if q.rows.Len() >= maxQueued || !q.budget.allows(q.bytes, size+r.Size()) {
			q.refused, q.lost = true, w
			q.ended.Store(true)
			break
		}
		q.rows.Push(liveRow{r, w})
		size += r.Size()
	}
	q.bytes += size
	refused := q.refused
	q.mu.Unlock()
	q.budget.used.Add(size)
	if first || refused {
		q.wake()
	}
}

// refuse ends the queue as if it had overflowed with a message of the window.
func (q *queue) refuse(w *snapshot.Window) {
	q.mu.Lock()
	if !q.refused {
		q.refused, q.lost = true, w
	}
	q.mu.Unlock()
	q.ended.Store(true)
	q.wake()
}

// state returns where the queue begins, once it is attached, and whether it has ended.
func (q *queue) state() (target snapshot.Closed, attached, refused bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.target, q.attached, q.refused
}

// take removes up to n messages; they are valid until the next call.
func (q *queue) take(n int) []liveRow {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, q.rows.Len())
	q.taken = append(q.taken[:0], q.rows.All()[:n]...)
	q.rows.Drop(n)
	q.release(q.taken)
	return q.taken
}

func (q *queue) release(rows []liveRow) {
	var size int64
	for _, r := range rows {
		size += r.row.Size()
	}
	q.bytes -= size
	q.budget.used.Add(-size)
}

// first returns the first window with messages that are not taken yet, nil if there is none.
func (q *queue) first() *snapshot.Window {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.firstLocked()
}

func (q *queue) firstLocked() *snapshot.Window {
	if q.rows.Len() > 0 {
		return q.rows.All()[0].win
	}
	return q.lost
}

// drop ends the queue and gives its memory back. It returns the first window with messages that were not taken.
func (q *queue) drop() *snapshot.Window {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.firstLocked()
	q.release(q.rows.All())
	q.budget.queues.Add(-1)
	q.rows, q.refused = fifo.Queue[liveRow]{}, true
	q.ended.Store(true)
	return first
}

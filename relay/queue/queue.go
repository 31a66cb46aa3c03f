package queue

import (
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// Item is a message on its way from the feed to a runner.
type Item struct {
	Row *message.Row
	Win *snapshot.Window // in which it was dispatched
}

// Queue carries messages from the feed to one live runner. Once it has refused a message it takes no more: a queue holds a
// prefix of what the feed dispatched and never has a hole.
type Queue struct {
	Match  *topic.Matcher
	Class  int16 // of the messages that it wants; 0: all
	budget *Budget
	wake   func()         // tells the runner that something changed
	ended  *atomic.Bool   // tells the feed that some queue has ended
	Staged []*message.Row // the feed's: about to be pushed
	taken  []Item         // the runner's: the array of take

	mu       sync.Mutex
	rows     fifo.Queue[Item]
	bytes    int64
	refused  bool
	lost     *snapshot.Window // of the first message that was refused
	attached bool
	target   snapshot.Closed // where the queue begins
}

// maxQueued bounds the messages in one queue.
const maxQueued = 20_000

// New returns a queue of messages whose topics match. Its end sets ended; wake must not wait.
func New(match *topic.Matcher, b *Budget, wake func(), ended *atomic.Bool) *Queue {
	b.Queues.Add(1)
	return &Queue{Match: match, budget: b, wake: wake, ended: ended}
}

// Attach says from where on the queue is complete.
func (q *Queue) Attach(at snapshot.Closed) {
	q.mu.Lock()
	q.attached, q.target = true, at
	q.mu.Unlock()
	q.wake()
}

// Push takes the window's messages, up to the first that it refuses.
func (q *Queue) Push(rows []*message.Row, w *snapshot.Window) {
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
		q.rows.Push(Item{r, w})
		size += r.Size()
	}
	q.bytes += size
	refused := q.refused
	q.mu.Unlock()
	q.budget.Used.Add(size)
	if first || refused {
		q.wake()
	}
}

// Refuse ends the queue as if it had overflowed with a message of the window.
func (q *Queue) Refuse(w *snapshot.Window) {
	q.mu.Lock()
	if !q.refused {
		q.refused, q.lost = true, w
	}
	q.mu.Unlock()
	q.ended.Store(true)
	q.wake()
}

// State returns where the queue begins, once it is attached, and whether it has ended.
func (q *Queue) State() (target snapshot.Closed, attached, refused bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.target, q.attached, q.refused
}

// Take removes up to n messages; they are valid until the next call.
func (q *Queue) Take(n int) []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, q.rows.Len())
	q.taken = append(q.taken[:0], q.rows.All()[:n]...)
	q.rows.Drop(n)
	q.free(q.taken)
	return q.taken
}

func (q *Queue) free(rows []Item) {
	var size int64
	for _, r := range rows {
		size += r.Row.Size()
	}
	q.bytes -= size
	q.budget.Used.Add(-size)
}

// First returns the first window with messages that are not taken yet, nil if there is none.
func (q *Queue) First() *snapshot.Window {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.firstLocked()
}

func (q *Queue) firstLocked() *snapshot.Window {
	if q.rows.Len() > 0 {
		return q.rows.All()[0].Win
	}
	return q.lost
}

// Drop ends the queue and gives its memory back. It returns the first window with messages that were not taken.
func (q *Queue) Drop() *snapshot.Window {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.firstLocked()
	q.free(q.rows.All())
	q.budget.Queues.Add(-1)
	q.rows, q.refused = fifo.Queue[Item]{}, true
	q.ended.Store(true)
	return first
}

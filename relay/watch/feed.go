package watch

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

// Change is what became of a message, for one subscription.
type Change struct {
	Subscription string     `json:"subscription"`
	ID           int64      `json:"id"`
	Topic        string     `json:"topic"`
	Key          string     `json:"key,omitempty"`
	Status       string     `json:"status"`
	Attempts     int        `json:"attempts"`
	Due          *time.Time `json:"due,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	At           time.Time  `json:"at"`
	// Foreign says that another relay has told of it.
	Foreign bool `json:"-"`
	// About is what is told of a subscription instead of a message, as JSON.
	About []byte `json:"-"`
}

// Event is a change in its batch.
type Event struct {
	Change
	Data []byte // as JSON
}

// Batch are changes that were told at about the same time.
type Batch struct {
	First  uint64 // the number of the first event
	Events []Event
	// Missed says that more happened than was told.
	Missed bool
	end    uint64 // the number of what comes next: one that tells only that something was missed has a number, too
}

const (
	tick        = 50 * time.Millisecond
	mostTold    = 5_000  // together
	mostPending = 10_000 // in one tick
	mostKept    = 50_000 // in the ring
)

// mostBatches bounds batches that are small.
const mostBatches = 5_000

// Feed is what is told. The zero value is ready.
type Feed struct {
	listeners atomic.Int32

	mu      sync.Mutex
	pending []Change
	missed  bool
	batches []*Batch // the newest last, with mostKept events at most
	next    uint64   // the number of the next event
	kept    int
	newer   chan struct{} // closed when there is a newer batch; nil: nobody waits
	stop    chan struct{} // of the goroutine that publishes
}

// Listening says whether anybody listens: else there is no need to make a Change.
func (f *Feed) Listening() bool { return f != nil && f.listeners.Load() > 0 }

// Told are changes that are to be told together. The zero value is none.
type Told struct {
	changes []Change
	missed  bool
}

// Add adds a change, or, where there are too many, notes that one is missed.
func (t *Told) Add(c Change) {
	if len(t.changes) >= mostTold {
		t.missed = true
		return
	}
	t.changes = append(t.changes, c)
}

// None says whether there is nothing to tell.
func (t *Told) None() bool { return len(t.changes) == 0 && !t.missed }

// TellAll tells of changes. It never waits. On nil it does nothing.
func (f *Feed) TellAll(t Told) {
	if t.None() || f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners.Load() == 0 {
		return
	}
	room := min(mostPending-len(f.pending), len(t.changes))
	f.missed = f.missed || t.missed || room < len(t.changes)
	f.pending = append(f.pending, t.changes[:room]...)
}

// Tell tells of one change.
func (f *Feed) Tell(c Change) { f.TellAll(Told{changes: []Change{c}}) }

// Miss tells that something has happened that is not told.
func (f *Feed) Miss() { f.TellAll(Told{missed: true}) }

// Join makes the caller a listener until leave is called.
func (f *Feed) Join() (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners.Add(1) == 1 {
		f.stop = make(chan struct{})
		go f.publish(f.stop)
	}
	return sync.OnceFunc(f.leave)
}

// leave ends the feed with its last listener: who comes later finds a gap where nobody listened.
func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners.Add(-1) > 0 {
		return
	}
	close(f.stop)
	f.pending, f.batches, f.kept, f.missed = nil, nil, 0, false
	f.next++ // nothing that comes follows on what was told
}

func (f *Feed) publish(stop chan struct{}) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			f.flush()
		}
	}
}

// flush makes a batch of what is pending.
func (f *Feed) flush() {
	f.mu.Lock()
	pending, missed := f.pending, f.missed
	f.pending, f.missed = nil, false
	f.mu.Unlock()
	if len(pending) == 0 && !missed {
		return
	}
	b := &Batch{Events: make([]Event, len(pending)), Missed: missed}
	for i, c := range pending {
		b.Events[i].Change = c
		if b.Events[i].Data = c.About; c.About == nil {
			b.Events[i].Data, _ = json.Marshal(c) // texts, numbers and times of this era
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners.Load() == 0 {
		return
	}
	b.First = f.next
	f.next += uint64(max(len(b.Events), 1))
	b.end = f.next
	f.batches = append(f.batches, b)
	f.kept += len(b.Events)
	for f.kept > mostKept || len(f.batches) > mostBatches {
		f.kept -= len(f.batches[0].Events)
		f.batches = f.batches[1:]
	}
	if f.newer != nil {
		close(f.newer)
		f.newer = nil
	}
}

// Position is where the feed is now: the number of the next event.
func (f *Feed) Position() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// Next returns the batches from a position on, and the position behind them; gap says that what was there is gone. Where there are none yet,
// newer is closed when there are.
func (f *Feed) Next(at uint64) (batches []*Batch, next uint64, gap bool, newer <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at == f.next {
		if f.newer == nil {
			f.newer = make(chan struct{})
		}
		return nil, at, false, f.newer
	}
	first := len(f.batches)
	for first > 0 && f.batches[first-1].end > at {
		first--
	}
	batches = f.batches[first:len(f.batches):len(f.batches)]
	gap = at > f.next || len(batches) == 0 || batches[0].First > at
	return batches, f.next, gap, nil
}

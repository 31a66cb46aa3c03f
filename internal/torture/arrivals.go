package torture

import (
	"fmt"
	"sync"
	"time"
)

// Arrival is one message as a destination saw it.
type Arrival struct {
	ID       int64
	Wire     string // the message id on the wire
	At       time.Time
	Accepted bool // the destination took it; false: it was offered and refused
}

// book holds what one subscription's destination saw, in its order.
type book struct {
	mu       sync.Mutex
	arrivals []Arrival
	accepted map[int64]bool
	strange  []string // what could not be read
}

func newBook() *book { return &book{accepted: make(map[int64]bool)} }

// add records arrivals in the order of the calls.
func (b *book) add(arrivals ...Arrival) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range arrivals {
		b.arrivals = append(b.arrivals, a)
		if a.Accepted {
			b.accepted[a.ID] = true
		}
	}
}

// enter records a message that a destination holds, by its payload.
func (b *book) enter(body []byte, wire string, at time.Time, where string) {
	p, err := parsePayload(body)
	if err != nil {
		b.reject(fmt.Sprintf("%s holds %v", where, err))
		return
	}
	b.add(Arrival{ID: p.ID, Wire: wire, At: at, Accepted: true})
}

// reject records something that no producer sent.
func (b *book) reject(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.strange = append(b.strange, what)
}

// missing counts which of the messages were not accepted yet.
func (b *book) missing(ids []int64) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if !b.accepted[id] {
			n++
		}
	}
	return n
}

// all returns what arrived so far. The slice is not changed any more.
func (b *book) all() []Arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.arrivals[:len(b.arrivals):len(b.arrivals)]
}

func (b *book) oddities() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.strange...)
}

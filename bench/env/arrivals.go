package env

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/bench/system"
)

// Arrivals keeps when each message arrived first. Its methods may be called concurrently.
type Arrivals struct {
	mu    sync.Mutex
	at    []int64 // by n, in nanoseconds since 1970; 0: not yet
	count atomic.Int64
	again atomic.Int64
}

// Add takes an arrival down. What has no number is left out.
func (a *Arrivals) Add(n int64, at time.Time) {
	if n <= 0 {
		return
	}
	a.mu.Lock()
	for int64(len(a.at)) <= n {
		a.at = append(a.at, make([]int64, max(1<<16, len(a.at)))...)
	}
	first := a.at[n] == 0
	if first {
		a.at[n] = at.UnixNano()
	}
	a.mu.Unlock()
	if first {
		a.count.Add(1)
	} else {
		a.again.Add(1)
	}
}

// Count is the number of messages that have arrived.
func (a *Arrivals) Count() int64 { return a.count.Load() }

// Again is the number of arrivals beyond the first of each message.
func (a *Arrivals) Again() int64 { return a.again.Load() }

// Times returns the arrivals by n, in nanoseconds since 1970; 0 means that there was none, and the slice may end earlier.
func (a *Arrivals) Times() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int64(nil), a.at...)
}

// Subscribe takes down what arrives at subjects (such as "bench.>") with a core subscription, until stop is called. The server hands a
// message on to it before it is stored.
func (n *NATS) Subscribe(subject string) (a *Arrivals, stop func(), err error) {
	// A connection of its own, so that nothing else delays it.
	conn, err := nats.Connect(n.URL)
	if err != nil {
		return nil, nil, err
	}
	a = &Arrivals{}
	sub, err := conn.Subscribe(subject, func(m *nats.Msg) { a.Add(system.Number(m.Data), time.Now()) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return a, conn.Close, nil
}

package sinks

import (
	"sync"
	"sync/atomic"
	"time"
)

// Meter counts, for all sinks of one kind of destination, what no outcome tells. Its methods may be called by several goroutines at once; those of nil do nothing.
type Meter struct {
	made, failed            atomic.Int64
	batches, messages, busy atomic.Int64

	mu      sync.Mutex
	blocked time.Duration // without those that last
	lasting []time.Time   // when they began
}

// Measured is what a Meter has counted.
type Measured struct {
	Connections, ConnectFailures int64
	Batches, Messages            int64
	Busy                         time.Duration // of all batches, from when the sink had them until their last outcome
	Blocked                      time.Duration
}

// Connected counts a connection that was made or, with an error, was not.
func (m *Meter) Connected(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.made.Add(1)
	default:
		m.failed.Add(1)
	}
}

// Block counts the time in which a destination takes nothing over a connection that stands, until over is called, which may happen more than once.
func (m *Meter) Block() (over func()) {
	if m == nil {
		return func() {}
	}
	began := time.Now()
	m.mu.Lock()
	m.lasting = append(m.lasting, began)
	m.mu.Unlock()
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, one := range m.lasting {
			if one == began {
				m.lasting = append(m.lasting[:i], m.lasting[i+1:]...)
				break
			}
		}
		m.blocked += time.Since(began)
	})
}

// Stage returns one that counts batches.
func (m *Meter) Stage() Stage {
	return Stage{Batch: func(since time.Time, messages int) {
		m.batches.Add(1)
		m.messages.Add(int64(messages))
		m.busy.Add(int64(time.Since(since)))
	}}
}

// Read returns what was counted so far.
func (m *Meter) Read() Measured {
	c := Measured{Connections: m.made.Load(), ConnectFailures: m.failed.Load(), Batches: m.batches.Load(), Messages: m.messages.Load(), Busy: time.Duration(m.busy.Load())}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.Blocked = m.blocked
	for _, began := range m.lasting {
		c.Blocked += time.Since(began)
	}
	return c
}

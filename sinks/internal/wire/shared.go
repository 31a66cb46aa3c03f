package wire

import (
	"context"
	"errors"
	"sync"

	"github.com/postrider/postrider/sinks"
)

// Link is a connection on which a protocol is spoken.
type Link interface {
	comparable
	Gone() bool // it serves nobody any more
	Close() error
}

// Shared is the one connection of all of a sink's lanes. Whoever needs it first has it made, and so does whoever finds it gone.
type Shared[L Link] struct {
	connect func(ctx context.Context, old L, turn int) (L, error)
	meter   *sinks.Meter
	life    context.Context // ends with Close
	end     context.CancelFunc

	mu      sync.Mutex
	link    L           // nil: there has been none yet
	attempt *attempt[L] // to make one; nil: none is under way
	turn    int
	making  sync.WaitGroup
}

// attempt is one to connect.
type attempt[L Link] struct {
	done chan struct{}
	link L
	err  error
}

// NewShared returns one that connect makes: old is the one before it, nil for the first, and turn counts the attempts, from 0. The meter is told of each.
func NewShared[L Link](meter *sinks.Meter, connect func(ctx context.Context, old L, turn int) (L, error)) *Shared[L] {
	s := &Shared[L]{connect: connect, meter: meter}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// ErrConnecting is that the caller could not wait any longer. The attempt goes on.
var ErrConnecting = errors.New("there is no connection yet")

// Ready returns the connection, which it makes if there is none. That goes on though ctx ends: whoever comes next finds it.
func (s *Shared[L]) Ready(ctx context.Context) (none L, err error) {
	s.mu.Lock()
	if s.link != none && !s.link.Gone() {
		defer s.mu.Unlock()
		return s.link, nil
	}
	a := s.attempt
	if a == nil {
		a = &attempt[L]{done: make(chan struct{})}
		s.attempt = a
		old, turn := s.link, s.turn
		s.turn++
		s.making.Go(func() { s.make(a, old, turn) })
	}
	s.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return none, errors.Join(ErrConnecting, ctx.Err())
	}
}

func (s *Shared[L]) make(a *attempt[L], old L, turn int) {
	a.link, a.err = s.connect(s.life, old, turn)
	s.meter.Connected(a.err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt = nil
	if a.err == nil {
		s.link = a.link
	}
	close(a.done)
}

// Last returns the connection that was made last, nil if there was none. It may be gone.
func (s *Shared[L]) Last() L {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// Close ends an attempt that is under way, and the connection.
func (s *Shared[L]) Close() error {
	s.end()
	s.making.Wait()
	var none L
	if last := s.Last(); last != none {
		return last.Close()
	}
	return nil
}

package sinktest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider/sinks"
)

// Memory is a destination in memory whose deliveries end one by one, in any order: the reference of what a sinks.Sender does. The
// zero value accepts everything, and bears 16 deliveries at once.
type Memory struct {
	// Answer says what comes of a delivery. Nil means that all are accepted.
	Answer func(d sinks.Delivery) error
	// Lanes is how many deliveries may be out at once. Zero means 16.
	Lanes int

	mu       sync.Mutex
	down     bool            // every delivery is Unavailable
	hung     bool            // none ends
	held     map[string]bool // keys of which none ends
	received []Received
	senders  []*memorySender
}

var errMemoryDown = errors.New("the memory is down")

// Open returns a sink to the destination. The caller closes it.
func (m *Memory) Open() sinks.SinkSender {
	s := &memorySender{to: m, news: make(chan struct{}, 1), closed: make(chan struct{}), ended: make(chan struct{})}
	go s.work()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.senders = append(m.senders, s)
	return sinks.AsSink(s)
}

// Received returns what was accepted so far, in that order.
func (m *Memory) Received() []Received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.received)
}

// Out returns the number of deliveries that have begun and not ended.
func (m *Memory) Out() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.senders {
		n += len(s.out)
	}
	return n
}

// Hold keeps all deliveries of a key out until the function that it returns is called.
func (m *Memory) Hold(key string) (letGo func()) {
	m.change(func() {
		if m.held == nil {
			m.held = make(map[string]bool)
		}
		m.held[key] = true
	})
	return func() { m.change(func() { delete(m.held, key) }) }
}

// Down makes every delivery Unavailable.
func (m *Memory) Down() { m.change(func() { m.down, m.hung = true, false }) }

// Hang keeps every delivery out.
func (m *Memory) Hang() { m.change(func() { m.hung = true }) }

// Up ends Down and Hang.
func (m *Memory) Up() { m.change(func() { m.down, m.hung = false, false }) }

func (m *Memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	for _, s := range m.senders {
		s.wake()
	}
}

// judge says what comes of a delivery.
func (m *Memory) judge(d sinks.Delivery) error {
	own, err := d.HeaderMap()
	if err != nil {
		return sinks.Permanent(err)
	}
	if m.Answer != nil {
		if err := m.Answer(d); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return sinks.Unavailable(errMemoryDown, 0)
	}
	r := Received{
		MessageID: d.MessageID, Topic: d.Topic, Key: strings.Clone(d.Key), Payload: slices.Clone(d.Payload), ContentType: "application/octet-stream",
		Headers: make(map[string]string, len(own)), Attempt: d.Attempt, Subscription: d.Subscription,
	}
	if d.JSON {
		r.ContentType = "application/json"
	}
	for name, value := range own {
		r.Headers[strings.ToLower(name)] = value
	}
	m.received = append(m.received, r)
	return nil
}

// memorySender is one opening of a Memory.
type memorySender struct {
	to   *Memory
	news chan struct{} // something may be able to end
	out  []*sending    // guarded by to.mu

	closed, ended chan struct{}
}

type sending struct {
	ctx  context.Context
	d    sinks.Delivery
	done func(error)
	stop func() bool // of the watch on ctx
}

// Send notes the delivery.
func (s *memorySender) Send(ctx context.Context, d sinks.Delivery, done func(outcome error)) {
	o := &sending{ctx: ctx, d: d, done: done, stop: context.AfterFunc(ctx, s.wake)}
	s.to.mu.Lock()
	s.out = append(s.out, o)
	s.to.mu.Unlock()
	s.wake()
}

// Limits implements sinks.Sender.
func (s *memorySender) Limits() sinks.Limits {
	if s.to.Lanes > 0 {
		return sinks.Limits{Lanes: s.to.Lanes, Batch: 1}
	}
	return sinks.Limits{Lanes: 16, Batch: 1}
}

// Close ends what is out.
func (s *memorySender) Close() error {
	close(s.closed)
	<-s.ended
	return nil
}

func (s *memorySender) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// work ends deliveries, whichever comes first by chance, until Close; then all of them.
func (s *memorySender) work() {
	defer close(s.ended)
	for {
		for o := s.next(false); o != nil; o = s.next(false) {
			s.end(o, nil)
		}
		select {
		case <-s.news:
		case <-s.closed:
			for o := s.next(true); o != nil; o = s.next(true) {
				s.end(o, context.Canceled)
			}
			return
		}
	}
}

// next takes out a delivery that can end, nil if there is none. All can when the sender is closed.
func (s *memorySender) next(all bool) *sending {
	m := s.to
	m.mu.Lock()
	defer m.mu.Unlock()
	var can []int
	for i, o := range s.out {
		if all || o.ctx.Err() != nil || !m.hung && !m.held[o.d.Key] {
			can = append(can, i)
		}
	}
	if len(can) == 0 {
		return nil
	}
	i := can[rand.IntN(len(can))]
	o := s.out[i]
	s.out = slices.Delete(s.out, i, i+1)
	return o
}

func (s *memorySender) end(o *sending, err error) {
	o.stop()
	if err == nil {
		err = o.ctx.Err()
	}
	if err == nil {
		err = s.to.judge(o.d)
	}
	o.done(err)
}

package pull

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/sinks"
)

// Open returns what the relay delivers a subscription's messages to. There is one at a time for each.
func (h *Hub) Open(subscription string, setup Setup, lanes int) (sinks.Sink, error) {
	s := &sender{hub: h, lanes: lanes}
	var err error
	h.do(func() {
		s.line = h.core.line(subscription)
		if s.line.open {
			err = errors.New("the subscription is open already")
			return
		}
		s.line.opened = h.core.now
		s.line.open, s.line.setup, s.line.marked = true, setup, make(map[int64]bool)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// sender is the relay's side of a line.
type sender struct {
	hub   *Hub
	line  *line
	lanes int
}

var (
	_ sinks.Canceller  = (*sender)(nil)
	_ sinks.SinkSender = (*sender)(nil)
	_ sinks.LateLoader = (*sender)(nil)
	_ sinks.Troubled   = (*sender)(nil)
)

// Deliver implements sinks.Sink.
func (s *sender) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	sinks.AsSink(s).Deliver(ctx, batch, outcomes)
}

// Serve implements sinks.Lessor.
func (s *sender) Serve(leases []sinks.Lease, settle func(token int64, outcome error)) {
	s.hub.do(func() {
		s.line.settle, s.line.served = settle, true
		s.hub.core.adopt(s.line, leases)
	})
}

// LeaseOut implements sinks.Lessor.
func (s *sender) LeaseOut(since time.Duration) {
	s.hub.do(func() { s.hub.core.leaseLong(s.line, since) })
}

// Cancel implements sinks.Canceller.
func (s *sender) Cancel(messages map[int64]bool) {
	s.hub.do(func() { s.hub.core.cancel(s.line, messages) })
}

// Send puts the delivery into its line.
func (s *sender) Send(ctx context.Context, d sinks.Delivery, done func(outcome error)) {
	s.hub.do(func() { s.hub.core.send(ctx, s.line, d, done) })
}

// Limits implements sinks.Sender.
func (s *sender) Limits() sinks.Limits { return sinks.Limits{Lanes: s.lanes, Batch: 1} }

// Trouble implements sinks.Troubled.
func (s *sender) Trouble() (text string, again time.Duration) {
	s.hub.do(func() { text, again = s.hub.core.neglect(s.line) })
	return text, again
}

// LoadsLate implements sinks.LateLoader: jobs may wait for their workers for days.
func (s *sender) LoadsLate() {}

// Relinquish implements sinks.Relinquisher.
func (s *sender) Relinquish() { s.hub.do(func() { s.hub.core.relinquish(s.line) }) }

// Close implements sinks.Sender.
func (s *sender) Close() error {
	s.hub.do(func() { s.hub.core.close(s.line) })
	return nil
}

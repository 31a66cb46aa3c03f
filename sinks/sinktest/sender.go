package sinktest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
)

// RunSender runs the suite for a sink whose deliveries end one by one: what Run holds of it as a Sink, and the promises of
// sinks.Sender. Harness.Open returns the Sender as a Sink, through sinks.AsSink; for any other Sink its sinks.AsSender is tested.
func RunSender(t *testing.T, newHarness func(t *testing.T) *Harness) {
	Run(t, newHarness)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Harness)
	}{
		{"each delivery ends once", endsOnce},
		{"a slow one delays no other", slowDelaysNothing},
		{"cancelled while it is out", cancelledWhileOut},
		{"close ends what is out", closeEnds},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newHarness(t)) })
	}
}

// ends collects the ends of deliveries.
type ends struct {
	t    *testing.T
	mu   sync.Mutex
	of   map[string][]error // by message id
	news chan struct{}
}

func newEnds(t *testing.T) *ends {
	return &ends{t: t, of: make(map[string][]error), news: make(chan struct{}, 1)}
}

// send sends a delivery, which must not take the time that the destination takes.
func (e *ends) send(ctx context.Context, s sinks.Sender, d sinks.Delivery) {
	e.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, Patience)
	e.t.Cleanup(cancel)
	s.Send(ctx, d, func(outcome error) { e.add(d.MessageID, outcome) })
	if took := time.Since(began); took > promptly {
		e.t.Errorf("Send took %v: it must not wait for the destination", took)
	}
}

func (e *ends) add(id string, outcome error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of[id] = append(e.of[id], outcome)
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// count returns how many of the deliveries have ended, and whether one has more than once.
func (e *ends) count(batch []sinks.Delivery) (n int, again string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range batch {
		n += min(len(e.of[d.MessageID]), 1)
		if len(e.of[d.MessageID]) > 1 {
			again = d.MessageID
		}
	}
	return n, again
}

// await waits until all deliveries have ended, and returns their outcomes.
func (e *ends) await(batch ...sinks.Delivery) []error {
	e.t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		n, again := e.count(batch)
		if again != "" {
			e.t.Fatalf("done was called again for message %s", again)
		}
		if n == len(batch) {
			break
		}
		select {
		case <-e.news:
		case <-timer.C:
			e.t.Fatalf("%d of %d deliveries have ended after %v", n, len(batch), Patience)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	outcomes := make([]error, len(batch))
	for i, d := range batch {
		outcomes[i] = e.of[d.MessageID][0]
	}
	return outcomes
}

// openSender opens a sink that the test closes.
func (h *Harness) openSender(t *testing.T) (s sinks.Sender, closeOnce func()) {
	s = sinks.AsSender(h.Open(t))
	closeOnce = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(closeOnce)
	return s, closeOnce
}

// endsOnce also looks for ends that come after Close.
func endsOnce(t *testing.T, h *Harness) {
	s, closeOnce := h.openSender(t)
	lanes, e := s.Limits().Lanes, newEnds(t)
	if lanes < 1 || s.Limits().Batch != 1 {
		t.Errorf("Limits() = %+v: lanes must be at least 1, and the batch 1", s.Limits())
	}
	var all []sinks.Delivery
	for round := range 5 {
		batch := newBatch(lanes, fmt.Sprint("once", round))
		batch[0].Headers = []byte(`{"a":{"b":1}}`)
		for _, d := range batch {
			e.send(t.Context(), s, d)
		}
		outcomes := e.await(batch...)
		kinds := make([]sinks.Kind, lanes)
		kinds[0] = sinks.KindPermanent
		WantKinds(t, outcomes, kinds...)
		wantArrived(t, h, batch, outcomes)
		all = append(all, batch...)
	}
	closeOnce()
	e.await(all...)
}

func slowDelaysNothing(t *testing.T, h *Harness) {
	if h.Hold == nil {
		t.Skip("this destination cannot hold one message back")
	}
	s, _ := h.openSender(t)
	lanes, e := s.Limits().Lanes, newEnds(t)
	if lanes < 2 {
		t.Skip("one at a time")
	}
	slow := newBatch(1, "slow")[0]
	letGo := sync.OnceFunc(h.Hold(slow.Key))
	defer letGo()
	e.send(t.Context(), s, slow)
	for round := range 5 {
		others := newBatch(lanes-1, fmt.Sprint("others", round))
		for _, d := range others {
			e.send(t.Context(), s, d)
		}
		wantAllAccepted(t, e.await(others...))
	}
	if n, _ := e.count([]sinks.Delivery{slow}); n > 0 {
		t.Error("the delivery that is held back has ended")
	}
	letGo()
	wantAllAccepted(t, e.await(slow))
}

func cancelledWhileOut(t *testing.T, h *Harness) {
	if h.Hang == nil {
		t.Skip("this destination does not hang")
	}
	s, _ := h.openSender(t)
	e := newEnds(t)
	warm := newBatch(1, "warm")[0]
	e.send(t.Context(), s, warm)
	wantAllAccepted(t, e.await(warm))
	h.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	batch := newBatch(min(3, s.Limits().Lanes), "out")
	for _, d := range batch {
		e.send(ctx, s, d)
	}
	began := time.Now()
	cancel()
	for i, err := range e.await(batch...) {
		if kind, _ := sinks.Classify(err); kind != sinks.KindRetryable && kind != sinks.KindUnavailable {
			t.Errorf("outcome of message %d is %v (%v), though nobody confirmed it", i, kind, err)
		}
	}
	if took := time.Since(began); took > promptly {
		t.Errorf("the deliveries ended %v after their context", took)
	}
	h.Up()
}

func closeEnds(t *testing.T, h *Harness) {
	if h.Hang == nil {
		t.Skip("this destination does not hang")
	}
	before := goleak.IgnoreCurrent()
	s, closeOnce := h.openSender(t)
	e := newEnds(t)
	h.Hang()
	batch := newBatch(min(3, s.Limits().Lanes), "closed")
	for _, d := range batch {
		e.send(context.WithoutCancel(t.Context()), s, d)
	}
	began := time.Now()
	closeOnce()
	if took := time.Since(began); took > promptly {
		t.Errorf("Close took %v: it ends deliveries, and does not wait for the destination", took)
	}
	if n, _ := e.count(batch); n != len(batch) {
		t.Fatalf("%d of %d deliveries had ended when Close returned", n, len(batch))
	}
	for i, err := range e.await(batch...) {
		if err == nil {
			t.Errorf("message %d was accepted, though nobody confirmed it", i)
		}
	}
	h.Up()
	goleak.VerifyNone(t, before)
}

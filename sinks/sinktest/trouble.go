package sinktest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
)

// promptly is how soon a cancelled Deliver has to be back. It is generous for busy machines, and well below the
// time for which any sink waits by itself.
const promptly = 3 * time.Second

func cancelledBefore(t *testing.T, h *Harness) {
	s := h.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	batch := newBatch(3, "cancelled")
	outcomes := Deliver(ctx, s, batch...)
	if d := time.Since(start); d > promptly {
		t.Errorf("Deliver took %v under a cancelled context", d)
	}
	// A message may be accepted all the same, but not without having arrived.
	wantArrived(t, h, batch, outcomes)
	for i, err := range outcomes {
		if kind, _ := sinks.Classify(err); kind == sinks.KindPermanent || kind == sinks.KindGone {
			t.Errorf("outcome of message %d is %v (%v) under a cancelled context", i, kind, err)
		}
	}
}

func cancelledWhileHanging(t *testing.T, h *Harness) {
	if h.Hang == nil {
		t.Skip("this destination does not hang")
	}
	s := h.open(t)
	wantAllAccepted(t, Deliver(t.Context(), s, newBatch(1, "warm")...))
	h.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(50*time.Millisecond, cancel)
	defer timer.Stop()
	start := time.Now()
	for i, err := range Deliver(ctx, s, newBatch(3, "hanging")...) {
		if kind, _ := sinks.Classify(err); kind != sinks.KindRetryable && kind != sinks.KindUnavailable {
			t.Errorf("outcome of message %d is %v (%v), though nobody confirmed it", i, kind, err)
		}
	}
	if d := time.Since(start); d > promptly {
		t.Errorf("Deliver came back %v after it began, the context was cancelled after 50ms", d)
	}
	h.Up()
	recovers(t, h, s)
}

func downAndUp(t *testing.T, h *Harness) {
	if h.Down == nil {
		t.Skip("this destination is never down")
	}
	s := h.open(t)
	wantAllAccepted(t, Deliver(t.Context(), s, newBatch(1, "before")...))
	h.Down()
	for range 2 {
		batch := newBatch(3, "down")
		outcomes := Deliver(t.Context(), s, batch...)
		for i, err := range outcomes {
			if kind, _ := sinks.Classify(err); kind != sinks.KindUnavailable {
				t.Errorf("outcome of message %d is %v (%v), want unavailable", i, kind, err)
			}
		}
	}
	h.Up()
	recovers(t, h, s)
}

// recovers waits until the sink delivers again.
func recovers(t *testing.T, h *Harness, s sinks.Sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	batch := newBatch(1, "recovers")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		outcomes := Deliver(ctx, s, batch...)
		if outcomes[0] == nil {
			wantArrived(t, h, batch, outcomes)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the sink did not recover within %v: %v", Patience, outcomes[0])
		}
	}
}

func closeLeavesNothing(t *testing.T, h *Harness) {
	use := func() {
		s := h.Open(t)
		wantAllAccepted(t, Deliver(t.Context(), s, newBatch(2, "closed")...))
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	use() // What the destination starts for its first client is not the sink's.
	before := goleak.IgnoreCurrent()
	for range 3 {
		use()
	}
	goleak.VerifyNone(t, before)
	if h.Down == nil {
		return
	}
	h.Down()
	s := h.Open(t)
	Deliver(t.Context(), s, newBatch(1, "down")...)
	if err := s.Close(); err != nil {
		t.Errorf("Close while the destination is down: %v", err)
	}
	goleak.VerifyNone(t, before)
}

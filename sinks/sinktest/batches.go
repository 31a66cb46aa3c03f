package sinktest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/sinks"
)

func newBatch(n int, name string) []sinks.Delivery {
	batch := make([]sinks.Delivery, n)
	for i := range batch {
		batch[i] = NewDelivery("batch."+name, fmt.Sprintf(`{"i":%d}`, i))
		batch[i].Key = fmt.Sprintf("%s-%d", name, i)
	}
	return batch
}

// wantArrived fails the test unless each message that was accepted has arrived as it was sent.
func wantArrived(t *testing.T, h *Harness, batch []sinks.Delivery, outcomes []error) {
	t.Helper()
	got := h.byID()
	for i, d := range batch {
		if outcomes[i] != nil {
			continue
		}
		r, ok := got[d.MessageID]
		if !ok || string(r.Payload) != string(d.Payload) || r.Key != d.Key {
			t.Errorf("message %d was accepted, but arrived: %v, as key %q, payload %.60q", i, ok, r.Key, r.Payload)
		}
	}
}

func wantAllAccepted(t *testing.T, outcomes []error) {
	t.Helper()
	WantKinds(t, outcomes, make([]sinks.Kind, len(outcomes))...)
}

func fullBatch(t *testing.T, h *Harness) {
	s := h.open(t)
	limits := s.Limits()
	if limits.Lanes < 1 || limits.Batch < 1 {
		t.Fatalf("Limits() = %+v: both must be at least 1", limits)
	}
	// A subscription's settings may raise the limit.
	for _, n := range []int{limits.Batch, limits.Batch + 3} {
		batch := newBatch(n, "full")
		outcomes := Deliver(t.Context(), s, batch...)
		wantAllAccepted(t, outcomes)
		wantArrived(t, h, batch, outcomes)
	}
}

func concurrent(t *testing.T, h *Harness) {
	s := h.open(t)
	lanes, rounds, size := s.Limits().Lanes+2, 5, min(s.Limits().Batch, 50)
	type result struct {
		batch    []sinks.Delivery
		outcomes []error
	}
	results := make([]result, lanes*rounds)
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for round := range rounds {
				batch := newBatch(size, fmt.Sprintf("lane%d", lane))
				results[lane*rounds+round] = result{batch, Deliver(t.Context(), s, batch...)}
			}
		})
	}
	wg.Wait()
	for _, r := range results {
		wantAllAccepted(t, r.outcomes)
		wantArrived(t, h, r.batch, r.outcomes)
	}
}

func oneBadAmongGood(t *testing.T, h *Harness) {
	s := h.open(t)
	spoil := map[string]func(*sinks.Delivery){
		"headers that are no object of strings": func(d *sinks.Delivery) { d.Headers = []byte(`{"a":{"b":1}}`) },
	}
	if h.TooLarge > 0 {
		spoil["a payload that is too large"] = func(d *sinks.Delivery) {
			d.Payload = []byte(`"` + strings.Repeat("x", h.TooLarge-2) + `"`)
		}
	}
	for name, f := range spoil {
		t.Run(name, func(t *testing.T) {
			batch := newBatch(3, "bad")
			f(&batch[1])
			outcomes := Deliver(t.Context(), s, batch...)
			WantKinds(t, outcomes, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
			wantArrived(t, h, batch, outcomes)
			if _, ok := h.byID()[batch[1].MessageID]; ok {
				t.Error("the bad message arrived, though it was reported as impossible")
			}
			if outcomes[1] == nil || outcomes[1].Error() == "" {
				t.Error("the bad message has no reason")
			}
			// The next one must not suffer.
			wantAllAccepted(t, Deliver(t.Context(), s, newBatch(1, "after")...))
		})
	}
}

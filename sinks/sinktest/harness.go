package sinktest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// Harness is one destination for one test, up and empty. It is torn down by the test's cleanups.
type Harness struct {
	// Open opens a sink to the destination. The suite closes it.
	Open func(t testing.TB) sinks.Sink
	// Received returns what the destination has accepted so far, in order of arrival.
	Received func() []Received
	// TooLarge is the length of a payload, in bytes, that the destination can never take; zero if it takes anything.
	TooLarge int
	// NoAttempt says that attempt and subscription are not passed on.
	NoAttempt bool
	// Down makes the destination unreachable, Hang makes it silent, Up ends either. All are nil if that cannot happen.
	Down, Hang, Up func()
	// Hold makes the destination silent about the messages of one key, until the function that it returns is called. Nil if it cannot.
	Hold func(key string) (letGo func())
}

// Received is one message as the destination saw it.
type Received struct {
	MessageID, Topic, Key string
	Payload               []byte
	// ContentType is a media type; sinks that tell JSON from bytes in another way fill it in likewise.
	ContentType string
	// Headers holds at least the message's own headers, with names in lower case.
	Headers      map[string]string
	Attempt      int
	Subscription string
}

// Patience bounds everything that the suite waits for.
const Patience = 20 * time.Second

var rows atomic.Int64

// NewDelivery returns the first attempt at a new message with an id of its own.
func NewDelivery(topic, payload string) sinks.Delivery {
	row := rows.Add(1)
	now := time.Now().Truncate(time.Microsecond)
	return sinks.Delivery{
		Message: &sinks.Message{
			ID: row, MessageID: fmt.Sprintf("test-%d-%d", row, now.UnixMicro()), Topic: topic,
			Payload: []byte(payload), JSON: true, CreatedAt: now,
		},
		Subscription: "conformance",
		Attempt:      1,
	}
}

// Deliver hands the batch to the sink and returns the outcomes.
func Deliver(ctx context.Context, s sinks.Sink, batch ...sinks.Delivery) []error {
	outcomes := make([]error, len(batch))
	s.Deliver(ctx, batch, outcomes)
	return outcomes
}

// WantKinds fails the test unless the outcomes are of these kinds.
func WantKinds(t testing.TB, outcomes []error, want ...sinks.Kind) {
	t.Helper()
	if len(outcomes) != len(want) {
		t.Fatalf("%d outcomes, want %d", len(outcomes), len(want))
	}
	for i, err := range outcomes {
		if got, _ := sinks.Classify(err); got != want[i] {
			t.Errorf("outcome of message %d is %v (%v), want %v", i, got, err, want[i])
		}
	}
}

// WantText fails the test unless the outcome is of this kind, and its reason has all words.
func WantText(t testing.TB, outcome error, kind sinks.Kind, words ...string) {
	t.Helper()
	if got, _ := sinks.Classify(outcome); got != kind {
		t.Errorf("the outcome is %v: %v, want %v", got, outcome, kind)
	}
	for _, word := range words {
		if outcome == nil || !strings.Contains(outcome.Error(), word) {
			t.Errorf("the reason is %v, want %q in it", outcome, word)
		}
	}
}

// open opens a sink that is closed at the end of the test.
func (h *Harness) open(t testing.TB) sinks.Sink {
	s := h.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// byID returns what was received, by message id. The last one wins.
func (h *Harness) byID() map[string]Received {
	got := map[string]Received{}
	for _, r := range h.Received() {
		got[r.MessageID] = r
	}
	return got
}

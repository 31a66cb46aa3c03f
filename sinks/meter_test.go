package sinks_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// both delivers batches, and one by one.
type both struct{ sinks.Sink }

// Deliver implements sinks.Sink.
func (both) Deliver(context.Context, []sinks.Delivery, []error) {}

// Send implements sinks.Sender.
func (both) Send(_ context.Context, _ sinks.Delivery, done func(error)) { done(nil) }

// A meter counts batches with what they had, connections, and how long destinations take nothing, while that lasts and after it. Nobody has to have one.
func TestMeter(t *testing.T) {
	var none *sinks.Meter
	none.Connected(nil)
	none.Block()()

	var m sinks.Meter
	m.Connected(nil)
	m.Connected(errors.New("refused"))
	m.Connected(errors.New("refused"))
	sink := sinks.Wrap(both{}, m.Stage())
	sink.Deliver(t.Context(), make([]sinks.Delivery, 3), make([]error, 3))
	sender, ok := sink.(sinks.Sender)
	if !ok {
		t.Fatal("a sender that is counted is none any more")
	}
	sender.Send(t.Context(), sinks.Delivery{}, func(error) {})
	if got := m.Read(); got.Connections != 1 || got.ConnectFailures != 2 || got.Batches != 2 || got.Messages != 4 || got.Busy <= 0 || got.Blocked != 0 {
		t.Errorf("%+v", got)
	}

	began := time.Now()
	first, second := m.Block(), m.Block()
	for m.Read().Blocked <= 2*time.Millisecond { // while it lasts
		if time.Since(began) > time.Minute {
			t.Fatal("a block that lasts is not counted")
		}
	}
	first()
	first()
	second()
	after := m.Read().Blocked
	if most := 2 * time.Since(began); after <= 2*time.Millisecond || after > most {
		t.Errorf("two blocks of %v in all took %v", after, most)
	}
	if again := m.Read().Blocked; again != after {
		t.Errorf("a block that is over goes on: %v, then %v", after, again)
	}
}

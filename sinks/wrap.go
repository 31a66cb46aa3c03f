package sinks

import (
	"context"
	"time"
)

// Stage is a step that deliveries pass on their way to any sink and back: a filter, a transformation, a redaction, a count. Its
// functions may be called by several goroutines at once, and wait for nothing.
type Stage struct {
	// Before is shown each delivery ahead of the sink. It may put another message into d, for messages are shared and must not be
	// changed. If settled is true, the sink does not see the delivery, and outcome is what came of it. Nil means that all pass.
	Before func(d *Delivery) (settled bool, outcome error)
	// After is shown what came of a delivery that Before has let pass, and returns what the caller is told. Nil changes nothing.
	After func(d *Delivery, outcome error) error
}

// Wrap puts stages around a sink, the first one outermost: deliveries pass them in order, outcomes in the opposite one. The
// result is a Sender if the sink is one.
func Wrap(s Sink, stages ...Stage) Sink {
	for i := len(stages) - 1; i >= 0; i-- {
		w := wrapped{Sink: s, stage: stages[i]}
		if sender, ok := s.(Sender); ok {
			s = wrappedSender{w, sender}
		} else {
			s = w
		}
	}
	return s
}

type wrapped struct {
	Sink
	stage Stage
}

// Deliver hands on what passes.
func (w wrapped) Deliver(ctx context.Context, batch []Delivery, outcomes []error) {
	if w.stage.Before == nil {
		w.Sink.Deliver(ctx, batch, outcomes)
		w.after(batch, outcomes)
		return
	}
	passed, places := make([]Delivery, 0, len(batch)), make([]int, 0, len(batch))
	for i, d := range batch {
		settled, outcome := w.stage.Before(&d)
		if settled {
			outcomes[i] = outcome
			continue
		}
		passed, places = append(passed, d), append(places, i)
	}
	if len(passed) == 0 {
		return
	}
	results := make([]error, len(passed))
	w.Sink.Deliver(ctx, passed, results)
	w.after(passed, results)
	for i, place := range places {
		outcomes[place] = results[i]
	}
}

func (w wrapped) after(batch []Delivery, outcomes []error) {
	if w.stage.After == nil {
		return
	}
	for i := range batch {
		outcomes[i] = w.stage.After(&batch[i], outcomes[i])
	}
}

// wrappedSender is wrapped around a Sink that is a Sender as well.
type wrappedSender struct {
	wrapped
	sender Sender
}

var (
	_ SinkSender = wrappedSender{}
	_ Lessor     = wrappedSender{}
)

// Send hands on what passes.
func (w wrappedSender) Send(ctx context.Context, d Delivery, done func(outcome error)) {
	if w.stage.Before != nil {
		if settled, outcome := w.stage.Before(&d); settled {
			done(outcome)
			return
		}
	}
	if w.stage.After == nil {
		w.sender.Send(ctx, d, done)
		return
	}
	w.sender.Send(ctx, d, func(outcome error) { done(w.stage.After(&d, outcome)) })
}

// Relinquish hands on to a sink that can.
func (w wrappedSender) Relinquish() {
	if r, ok := w.sender.(Relinquisher); ok {
		r.Relinquish()
	}
}

// Serve hands on to a sink that leases.
func (w wrappedSender) Serve(leases []Lease, settle func(token int64, outcome error)) {
	if l, ok := w.sender.(Lessor); ok {
		l.Serve(leases, settle)
	}
}

// LeaseOut hands on to a sink that leases.
func (w wrappedSender) LeaseOut(since time.Duration) {
	if l, ok := w.sender.(Lessor); ok {
		l.LeaseOut(since)
	}
}

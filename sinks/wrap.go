package sinks

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"
)

// Stage is a step that deliveries pass on their way to any sink and back: a filter, a transformation, a redaction, a count, a trace. Its
// functions may be called by several goroutines at once, and wait for nothing.
type Stage struct {
	// Before is shown each delivery ahead of the sink. It may put another message into d, for messages are shared and must not be
	// changed. If settled is true, the sink does not see the delivery, and outcome is what came of it. Nil means that all pass.
	Before func(d *Delivery) (settled bool, outcome error)
	// Record is told of each attempt that Before has let pass, when it has ended: since when the sink has had it, together with how many
	// others and itself, and what came of it, ahead of After. Of a message that was loaded late it sees headers of up to 8 KiB, and no payload. Nil is not told.
	Record func(d *Delivery, since time.Time, together int, outcome error)
	// Batch is told of each batch that has passed, and of each message that is sent by itself, when it has ended: since when the sink has had it, and how many
	// messages it had. Nil is not told.
	Batch func(since time.Time, messages int)
	// After is shown what came of a delivery that Before has let pass, and returns what the caller is told. Nil changes nothing.
	After func(d *Delivery, outcome error) error
}

// Wrap puts stages around a sink, the first one outermost: deliveries pass them in order, outcomes in the opposite one. The
// result is a Sender if the sink is one, and a LateLoader if the sink is one and no stage has to see messages before it does. What else
// the sink can do, As finds.
func Wrap(s Sink, stages ...Stage) Sink {
	for i := len(stages) - 1; i >= 0; i-- {
		w := wrapped{Sink: s, stage: stages[i]}
		sender, sends := s.(Sender)
		_, late := s.(LateLoader)
		switch {
		case late && w.stage.Before == nil:
			s = wrappedLate{wrappedSender{w, sender}}
		case sends:
			s = wrappedSender{w, sender}
		default:
			s = w
		}
	}
	return s
}

// As returns what a sink can do beside delivering, such as a Lessor, be it behind stages: what is called there passes none. Whether it
// is a Sender or a LateLoader, its own type says.
func As[T any](s Sink) (T, bool) {
	for {
		if t, ok := s.(T); ok {
			return t, true
		}
		behind, ok := s.(interface{ inner() Sink })
		if !ok {
			var none T
			return none, false
		}
		s = behind.inner()
	}
}

type wrapped struct {
	Sink
	stage Stage
}

func (w wrapped) inner() Sink { return w.Sink }

// Deliver hands on what passes.
func (w wrapped) Deliver(ctx context.Context, batch []Delivery, outcomes []error) {
	if w.stage.Before == nil {
		w.hand(ctx, batch, outcomes)
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
	w.hand(ctx, passed, results)
	for i, place := range places {
		outcomes[place] = results[i]
	}
}

// hand gives what has passed to the sink, and shows what came of it.
func (w wrapped) hand(ctx context.Context, batch []Delivery, outcomes []error) {
	since := time.Now()
	w.Sink.Deliver(ctx, batch, outcomes)
	if w.stage.Batch != nil {
		w.stage.Batch(since, len(batch))
	}
	for i := range batch {
		outcomes[i] = w.back(&batch[i], since, len(batch), outcomes[i])
	}
}

// back shows what came of a delivery, and returns what the caller is told.
func (w wrapped) back(d *Delivery, since time.Time, together int, outcome error) error {
	if w.stage.Record != nil {
		w.stage.Record(d, since, together, outcome)
	}
	if w.stage.After != nil {
		return w.stage.After(d, outcome)
	}
	return outcome
}

// wrappedSender is wrapped around a Sink that is a Sender as well.
type wrappedSender struct {
	wrapped
	sender Sender
}

var _ SinkSender = wrappedSender{}

// Send hands on what passes.
func (w wrappedSender) Send(ctx context.Context, d Delivery, done func(outcome error)) {
	if w.stage.Before != nil {
		if settled, outcome := w.stage.Before(&d); settled {
			done(outcome)
			return
		}
	}
	since := time.Now()
	w.sender.Send(ctx, d, func(outcome error) {
		if w.stage.Batch != nil {
			w.stage.Batch(since, 1)
		}
		done(w.back(&d, since, 1, outcome))
	})
}

// wrappedLate is wrapped around a LateLoader.
type wrappedLate struct{ wrappedSender }

var _ LateLoader = wrappedLate{}

// LoadsLate says that a message that is too large to wait is loaded when somebody has a use for it.
func (w wrappedLate) LoadsLate() {}

// mostHeaders is how many bytes of headers are kept of a message that was loaded late, for whom it ends to tell.
const mostHeaders = 8 << 10

// Send keeps the headers of what is loaded: when the delivery ends, the message is gone.
func (w wrappedLate) Send(ctx context.Context, d Delivery, done func(outcome error)) {
	if d.Load == nil || w.stage.Record == nil {
		w.wrappedSender.Send(ctx, d, done)
		return
	}
	var headers atomic.Pointer[[]byte]
	load, inner := d.Load, w
	d.Load = func(ctx context.Context) (*Message, func(), error) {
		m, free, err := load(ctx)
		if err == nil && len(m.Headers) <= mostHeaders {
			headers.Store(new(bytes.Clone(m.Headers)))
		}
		return m, free, err
	}
	inner.stage.Record = func(d *Delivery, since time.Time, together int, outcome error) {
		told := *d
		if kept := headers.Load(); kept != nil {
			m := *d.Message
			m.Headers = *kept
			told.Message = &m
		}
		w.stage.Record(&told, since, together, outcome)
	}
	inner.wrappedSender.Send(ctx, d, done)
}

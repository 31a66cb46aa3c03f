package sinks

import (
	"context"
	"sync"
)

// SinkSender is a destination that is fed by either contract.
type SinkSender interface {
	Sink
	Sender
}

// AsSink makes a Sink of a Sender: Deliver sends the whole batch, and returns when the last of it has ended.
func AsSink(s Sender) SinkSender { return senderSink{s} }

type senderSink struct{ Sender }

// Deliver sends the batch and waits for its end.
func (s senderSink) Deliver(ctx context.Context, batch []Delivery, outcomes []error) {
	var out sync.WaitGroup
	out.Add(len(batch))
	for i := range batch {
		s.Send(ctx, batch[i], func(outcome error) {
			outcomes[i] = outcome
			out.Done()
		})
	}
	out.Wait()
}

// AsSender makes a Sender of a Sink, which then delivers each message as a batch of one, in a goroutine of its own.
func AsSender(s Sink) Sender {
	if both, ok := s.(SinkSender); ok {
		return both
	}
	a := &sinkSender{sink: s}
	a.life, a.end = context.WithCancel(context.Background())
	return a
}

type sinkSender struct {
	sink Sink
	life context.Context // ends with Close
	end  context.CancelFunc
	out  sync.WaitGroup // deliveries whose done has not returned
}

// Send delivers beside the caller.
func (a *sinkSender) Send(ctx context.Context, d Delivery, done func(outcome error)) {
	a.out.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(a.life, cancel)()
		var outcome [1]error
		a.sink.Deliver(ctx, []Delivery{d}, outcome[:])
		done(outcome[0])
	})
}

// Limits are those of the sink, without batches.
func (a *sinkSender) Limits() Limits { return Limits{Lanes: a.sink.Limits().Lanes, Batch: 1} }

// Close waits for the deliveries that are out, and closes the sink.
func (a *sinkSender) Close() error {
	a.end()
	a.out.Wait()
	return a.sink.Close()
}

package amqpsink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/sinks"
)

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	places := make([]int, len(batch))
	for i := range places {
		places[i] = i
	}
	s.publishAll(ctx, batch, outcomes, places)
	var shared []int
	for i, err := range outcomes {
		if _, ok := err.(*refusal); ok {
			shared = append(shared, i)
		}
	}
	s.publishAlone(ctx, batch, outcomes, shared)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(&s.wires.Secrets.Redactor, err)
	}
}

// refusal is why the server closed a channel. It may be meant for any of the messages that had no answer there.
type refusal struct{ said *amqp.Error }

// Error is what the server said.
func (r *refusal) Error() string { return reasonOf(r.said) }

// publishAll sends messages, as many at a time as a channel can have without an answer, and waits for the answers.
func (s *sink) publishAll(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for len(places) > 0 {
		n := min(len(places), window)
		if err := s.publish(ctx, batch, outcomes, places[:n]); err != nil {
			fill(outcomes, places, outcomeOf(err)) // none of these was sent
			return
		}
		places = places[n:]
	}
}

// publishAlone sends messages one by one, so that what is said of one is about that one. All of it has the time of a batch: what is left then waits.
func (s *sink) publishAlone(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for n, i := range places {
		r, ok := outcomes[i].(*refusal)
		if !ok {
			continue
		}
		if r.said.Code == amqp.NotFound || len(places) == 1 && len(batch) == 1 {
			outcomes[i] = r.alone(s.Exchange)
			continue
		}
		outcomes[i] = nil
		s.publishAll(ctx, batch, outcomes, places[n:n+1])
		if r, ok := outcomes[i].(*refusal); ok {
			outcomes[i] = r.alone(s.Exchange)
			if r.said.Code == amqp.AccessRefused && !strings.Contains(r.said.Reason, "topic") {
				fill(outcomes, places[n+1:], outcomes[i]) // the others would meet it, too
				return
			}
		}
		if kind, _ := sinks.Classify(outcomes[i]); kind == sinks.KindUnavailable {
			fill(outcomes, places[n+1:], outcomes[i])
			return
		}
	}
}

func fill(outcomes []error, places []int, err error) {
	for _, i := range places {
		outcomes[i] = err
	}
}

// publish sends messages over one channel and waits for the answers. With an error nothing was sent.
func (s *sink) publish(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l, err := s.shared.Ready(ctx)
	if err != nil {
		return err
	}
	if err := l.clear(ctx); err != nil {
		return err
	}
	c, err := l.open(ctx)
	if err != nil {
		return err
	}
	unsent, err := s.send(ctx, l, c, batch, outcomes, places)
	if err != nil {
		fill(outcomes, unsent, outcomeOf(err))
	}
	if wait(ctx, c.sent) != nil {
		c.missing(ctx, l, outcomes)
		return nil
	}
	c.answers(outcomes)
	l.give(c)
	return nil
}

// send writes messages, and returns those that it did not write, with the reason. One whose writing failed may have arrived.
func (s *sink) send(ctx context.Context, l *link, c *channel, batch []sinks.Delivery, outcomes []error, places []int) (unsent []int, err error) {
	defer context.AfterFunc(ctx, l.reset)() // a write waits for as long as the server reads nothing
	for n, i := range places {
		key, m, err := s.message(&batch[i], l.conn.Config.FrameSize)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		if _, why := l.blocked(); why != nil {
			return places[n:], why
		}
		confirm, err := c.PublishWithDeferredConfirm(s.Exchange, key, s.Unroutable != "drop", false, m)
		if err != nil {
			return places[n:], c.ended(err)
		}
		c.sent = append(c.sent, sent{i, batch[i].MessageID, confirm})
	}
	return nil, nil
}

// ended is why a channel takes nothing any longer: what the server said, if it did, else err. A channel is closed a moment before the reason is told.
func (c *channel) ended(err error) error {
	why := c.why()
	if why == nil && c.IsClosed() {
		why = c.closed(<-c.closes)
	}
	if why == nil {
		return err
	}
	if e, ok := errors.AsType[*amqp.Error](why); ok && e.Server && e.Recover {
		return &refusal{e}
	}
	return why
}

// answers makes outcomes of the answers, all of which are there.
func (c *channel) answers(outcomes []error) {
	returned := c.returned()
	for _, m := range c.sent {
		switch r, back := returned[m.id]; {
		case m.confirm.Acked() && !back:
		case back:
			outcomes[m.place] = sinks.Misconfigured(fmt.Errorf("no queue takes it (%d %s): bind one to the exchange for the routing key %q, or set unroutable to drop", r.ReplyCode, r.ReplyText, r.RoutingKey))
		case c.why() == nil:
			outcomes[m.place] = sinks.Retryable(errors.New("the server did not take it (nack): a queue is full and rejects, or failed"), 0)
		default:
			outcomes[m.place] = outcomeOf(c.ended(nil))
		}
	}
}

// missing is answers for a channel that still lacks some.
func (c *channel) missing(ctx context.Context, l *link, outcomes []error) {
	_, why := l.blocked()
	if why == nil {
		why = fmt.Errorf("no confirm in time: %w", ctx.Err())
	}
	waiting := c.sent
	var answered []sent
	for _, m := range waiting {
		select {
		case <-m.confirm.Done():
			answered = append(answered, m)
		default:
			outcomes[m.place] = outcomeOf(why)
		}
	}
	c.sent = answered
	c.answers(outcomes)
	c.sent = waiting
	l.giveUp(c)
}

package natssink

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// publish sends the whole batch and then waits for the acknowledgements.
func (s *Sink) publish(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error) {
	in, lost, err := c.take(&s.cfg, len(batch))
	if err != nil {
		fill(outcomes, sinks.Unavailable(fmt.Errorf("subscribe to acknowledgements: %w", err), 0))
		return
	}
	defer c.give(in)
	in.begin(outcomes)
	s.send(ctx, c, in, batch, outcomes)
	err = in.wait(ctx, lost, s.cfg.AckTimeout)
	if doubtful := in.conclude(); err == nil && len(doubtful) > 0 {
		s.sendAgain(c, in, batch, doubtful)
		err = in.wait(ctx, lost, s.cfg.AckTimeout)
	}
	if err != nil {
		in.giveUp(err)
	}
	in.confirm()
	if in.failed {
		s.classify(ctx, c, in)
	}
}

// classify turns the stream's answers, and what was said instead of one, into outcomes.
func (s *Sink) classify(ctx context.Context, c *conn, in *inbox) {
	diagnosed := false
	for i, err := range in.outcomes {
		if err == nil || in.subjects[i] == "" {
			continue
		}
		// One look at the streams is enough: the relay sees the rest of the batch fail in the same way.
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !diagnosed {
			diagnosed = true
			err = s.diagnose(ctx, c, in.subjects[i], err)
		}
		in.outcomes[i] = s.outcome(ctx, in.subjects[i], err)
	}
}

// send renders the messages and publishes them, up to the first error that is not one message's own.
func (s *Sink) send(ctx context.Context, c *conn, in *inbox, batch []sinks.Delivery, outcomes []error) {
	for i := range batch {
		if err := ctx.Err(); err != nil {
			fill(outcomes[i:], err)
			return
		}
		m, err := in.message(&batch[i], in.size > 1)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		s.link.forget(m.Subject)
		group := in.groupOf(i)
		m.Reply = in.reply(group)
		if err := c.nc.PublishMsg(m); err != nil {
			outcomes[i] = refused(c, m, err)
			if kind, _ := sinks.Classify(outcomes[i]); kind.Unavailable() {
				fill(outcomes[i:], outcomes[i])
				return
			}
			continue
		}
		in.sent(i, group)
	}
}

// sendAgain publishes messages of which nobody knows whether the stream has stored them, each in a group of its own.
func (s *Sink) sendAgain(c *conn, in *inbox, batch []sinks.Delivery, doubtful []int) {
	in.group(len(doubtful))
	for n, i := range doubtful {
		m, err := in.message(&batch[i], false)
		if err != nil { // which it did not the first time
			in.outcomes[i] = sinks.Permanent(err)
			continue
		}
		m.Reply = in.reply(n)
		if err := c.nc.PublishMsg(m); err != nil {
			in.outcomes[i] = refused(c, m, err)
			continue
		}
		in.sent(i, n)
	}
}

// publishCore sends the batch, and asks with a ping whether the server has read it.
func (s *Sink) publishCore(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error) {
	in, _, err := c.take(&s.cfg, len(batch))
	if err != nil {
		fill(outcomes, sinks.Unavailable(err, 0))
		return
	}
	defer c.give(in)
	reconnects, before := c.nc.Stats().Reconnects, c.nc.LastError()
	in.begin(outcomes)
	s.send(ctx, c, in, batch, outcomes)
	err = s.flush(ctx, c, reconnects)
	// A refusal comes ahead of the ping's answer, but the library reports it to its handler some time later.
	if last := c.nc.LastError(); deniedSubject(last) != "" && last != before {
		s.link.note(last)
	}
	for i, subject := range in.subjects[:len(batch)] {
		switch {
		case subject == "" || outcomes[i] != nil:
		case err != nil:
			outcomes[i] = s.outcome(ctx, subject, err)
		default:
			if no := s.link.refusal(subject); no != nil {
				outcomes[i] = sinks.Misconfigured(no)
			}
		}
	}
}

// flush returns once the server has read all that was published since it had been connected that many times.
func (s *Sink) flush(ctx context.Context, c *conn, reconnects uint64) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
	defer cancel()
	err := c.nc.FlushWithContext(ctx)
	if err == nil && c.nc.Stats().Reconnects != reconnects {
		err = nats.ErrDisconnected // The answer came over a new connection, the messages went over the old one.
	}
	if err != nil {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	return nil
}

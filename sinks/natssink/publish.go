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
	l, lost, err := c.take(&s.cfg, len(batch))
	if err != nil {
		fill(outcomes, sinks.Unavailable(fmt.Errorf("subscribe to acknowledgements: %w", err), 0))
		return
	}
	defer c.give(l)
	l.begin(outcomes)
	s.send(ctx, c, l, batch, outcomes)
	err = l.wait(ctx, lost, s.cfg.AckTimeout)
	if doubtful := l.conclude(); err == nil && len(doubtful) > 0 {
		s.sendAgain(c, l, batch, doubtful)
		err = l.wait(ctx, lost, s.cfg.AckTimeout)
	}
	if err != nil {
		l.giveUp(err)
	}
	l.confirm()
	if l.failed {
		s.classify(ctx, c, l)
	}
}

// classify turns the stream's answers, and what was said instead of one, into outcomes.
func (s *Sink) classify(ctx context.Context, c *conn, l *lane) {
	diagnosed := false
	for i, err := range l.outcomes {
		if err == nil || l.subjects[i] == "" {
			continue
		}
		// One look at the streams is enough: the relay sees the rest of the batch fail in the same way.
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !diagnosed {
			diagnosed = true
			err = s.diagnose(ctx, c, l.subjects[i], err)
		}
		l.outcomes[i] = s.outcome(ctx, l.subjects[i], err)
	}
}

// send renders the messages and publishes them, up to the first error that is not one message's own.
func (s *Sink) send(ctx context.Context, c *conn, l *lane, batch []sinks.Delivery, outcomes []error) {
	for i := range batch {
		if err := ctx.Err(); err != nil {
			fill(outcomes[i:], err)
			return
		}
		m, err := l.message(&batch[i], l.size > 1)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		s.link.forget(m.Subject)
		group := l.groupOf(i)
		m.Reply = l.reply(group)
		if err := c.nc.PublishMsg(m); err != nil {
			outcomes[i] = refused(c, m, err)
			if kind, _ := sinks.Classify(outcomes[i]); kind == sinks.KindUnavailable {
				fill(outcomes[i:], outcomes[i])
				return
			}
			continue
		}
		l.sent(i, group)
	}
}

// sendAgain publishes messages of which nobody knows whether the stream has stored them, each in a group of its own.
func (s *Sink) sendAgain(c *conn, l *lane, batch []sinks.Delivery, doubtful []int) {
	l.group(len(doubtful))
	for n, i := range doubtful {
		m, err := l.message(&batch[i], false)
		if err != nil { // which it did not the first time
			l.outcomes[i] = sinks.Permanent(err)
			continue
		}
		m.Reply = l.reply(n)
		if err := c.nc.PublishMsg(m); err != nil {
			l.outcomes[i] = refused(c, m, err)
			continue
		}
		l.sent(i, n)
	}
}

// publishCore sends the batch, and asks with a ping whether the server has read it.
func (s *Sink) publishCore(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error) {
	l, _, err := c.take(&s.cfg, len(batch))
	if err != nil {
		fill(outcomes, sinks.Unavailable(err, 0))
		return
	}
	defer c.give(l)
	reconnects, before := c.nc.Stats().Reconnects, c.nc.LastError()
	l.begin(outcomes)
	s.send(ctx, c, l, batch, outcomes)
	err = s.flush(ctx, c, reconnects)
	// A refusal comes ahead of the ping's answer, but the library reports it to its handler some time later.
	if last := c.nc.LastError(); deniedSubject(last) != "" && last != before {
		s.link.note(last)
	}
	for i, subject := range l.subjects[:len(batch)] {
		switch {
		case subject == "" || outcomes[i] != nil:
		case err != nil:
			outcomes[i] = s.outcome(ctx, subject, err)
		default:
			if no := s.link.refusal(subject); no != nil {
				outcomes[i] = sinks.Unavailable(no, 0)
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

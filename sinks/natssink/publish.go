package natssink

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// publish sends the whole batch and then waits for the acknowledgements, in order.
func (s *Sink) publish(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error) {
	futures := make([]jetstream.PubAckFuture, len(batch))
	s.send(ctx, c, batch, outcomes, func(i int, m *nats.Msg) (err error) {
		futures[i], err = c.js.PublishMsgAsync(m, s.options...)
		return err
	})
	diagnosed := false
	for i, f := range futures {
		if f == nil {
			continue
		}
		err := wait(ctx, f)
		// One look at the streams is enough: the relay sees the rest of the batch fail in the same way.
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !diagnosed {
			diagnosed = true
			err = s.diagnose(ctx, c, f.Msg().Subject, err)
		}
		outcomes[i] = s.outcome(ctx, f.Msg().Subject, err)
	}
}

// send renders the messages and hands them to publish, up to the first error that is not one message's own.
func (s *Sink) send(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error, publish func(int, *nats.Msg) error) {
	for i := range batch {
		if err := ctx.Err(); err != nil {
			fill(outcomes[i:], err)
			return
		}
		m, err := s.message(&batch[i])
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		s.link.forget(m.Subject)
		if err := publish(i, m); err != nil {
			outcomes[i] = refused(c, m, err)
			if kind, _ := sinks.Classify(outcomes[i]); kind == sinks.KindUnavailable {
				fill(outcomes[i:], outcomes[i])
				return
			}
		}
	}
}

// wait returns nil once the stream has confirmed. Of a future and an ended context, the future counts.
func wait(ctx context.Context, f jetstream.PubAckFuture) error {
	ok, failed := f.Ok(), f.Err()
	select {
	case <-ok:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	select {
	case <-ok:
		return nil
	case err := <-failed:
		return err
	default:
		return fmt.Errorf("wait for JetStream: %w", ctx.Err())
	}
}

// publishCore sends the batch, and asks with a ping whether the server has read it.
func (s *Sink) publishCore(ctx context.Context, c *conn, batch []sinks.Delivery, outcomes []error) {
	reconnects, before := c.nc.Stats().Reconnects, c.nc.LastError()
	subjects := make([]string, len(batch))
	s.send(ctx, c, batch, outcomes, func(i int, m *nats.Msg) error {
		subjects[i] = m.Subject
		return c.nc.PublishMsg(m)
	})
	err := s.flush(ctx, c, reconnects)
	// A refusal comes ahead of the ping's answer, but the library reports it to its handler some time later.
	if last := c.nc.LastError(); deniedSubject(last) != "" && last != before {
		s.link.note(last)
	}
	for i, subject := range subjects {
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

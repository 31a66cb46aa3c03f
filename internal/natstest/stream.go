package natstest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// CreateStream creates a stream, or does nothing if one with this configuration exists. Storage is on file unless
// set otherwise, Replicas is the number of servers unless set. Discard is always DiscardNew: a full stream refuses
// messages, it does not drop what it has confirmed.
func (c *Cluster) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	if cfg.Replicas == 0 {
		cfg.Replicas = len(c.nodes)
	}
	cfg.Discard = jetstream.DiscardNew
	err := request(ctx, func(ctx context.Context) error {
		_, err := c.js.CreateStream(ctx, cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", cfg.Name, err)
	}
	return nil
}

// Limit sets how much a stream may hold, -1 for no limit. It refuses what goes beyond, and keeps
// what it holds even if that is more: with one message or byte it is full at once.
func (c *Cluster) Limit(ctx context.Context, stream string, messages, bytes int64) error {
	err := c.update(ctx, stream, func(cfg *jetstream.StreamConfig) {
		cfg.MaxMsgs, cfg.MaxBytes, cfg.Discard = messages, bytes, jetstream.DiscardNew
	})
	if err != nil {
		return fmt.Errorf("limit stream %s: %w", stream, err)
	}
	return nil
}

// DeleteStream deletes a stream with all that it holds. See Seize.
func (c *Cluster) DeleteStream(ctx context.Context, stream string) error {
	asked := false
	err := request(ctx, func(ctx context.Context) error {
		err := c.js.DeleteStream(ctx, stream)
		if asked && errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil // An earlier request was heard, its answer was lost.
		}
		asked = true
		return err
	})
	if err != nil {
		return fmt.Errorf("delete stream %s: %w", stream, err)
	}
	return nil
}

// update changes a stream's configuration.
func (c *Cluster) update(ctx context.Context, stream string, change func(*jetstream.StreamConfig)) error {
	return request(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		change(&cfg)
		_, err = c.js.UpdateStream(ctx, cfg)
		return err
	})
}

// Seize reads what a stream holds after the given sequence number and deletes it, so that nothing which was
// confirmed to a publisher is missed. For publishers the stream is gone from the beginning. Servers are not stopped
// or started meanwhile. It returns the sequence number of the last message read; after an error it can be called again.
func (c *Cluster) Seize(ctx context.Context, stream string, after uint64, f func(Message)) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, err := c.seize(ctx, stream, after, f)
	if err != nil {
		return last, fmt.Errorf("seize stream %s: %w", stream, err)
	}
	return last, nil
}

func (c *Cluster) seize(ctx context.Context, stream string, after uint64, f func(Message)) (uint64, error) {
	if err := c.seal(ctx, stream); err != nil {
		return after, err
	}
	for {
		last, err := c.Read(ctx, stream, after, func(m Message) {
			if m.Subject != seized(stream) {
				f(m)
			}
		})
		if err != nil {
			return last, err
		}
		if last == after { // Twice the same: nothing is under way between the replicas.
			return last, c.DeleteStream(ctx, stream)
		}
		after = last
		if err := c.current(ctx, stream); err != nil {
			return last, err
		}
	}
}

// seal makes sure that nothing is stored any more.
func (c *Cluster) seal(ctx context.Context, stream string) error {
	aside := []string{seized(stream)}
	steps := []struct {
		change  func(*jetstream.StreamConfig)
		applied func(*node) bool
	}{
		{
			func(cfg *jetstream.StreamConfig) { cfg.Subjects = aside },
			func(n *node) bool { s := n.stream(stream); return s == nil || slices.Equal(s.Config.Subjects, aside) },
		},
		{
			func(cfg *jetstream.StreamConfig) { cfg.Sealed = true },
			func(n *node) bool { s := n.stream(stream); return s == nil || s.Config.Sealed },
		},
	}
	for _, step := range steps {
		if err := c.update(ctx, stream, step.change); err != nil {
			return err
		}
		if err := c.applied(ctx, step.applied); err != nil {
			return err
		}
		if err := c.mark(ctx, stream); err != nil {
			return err
		}
	}
	return nil
}

// applied waits until all running servers have done something: a follower that has
// not would do it the old way if it became the leader now.
func (c *Cluster) applied(ctx context.Context, done func(*node) bool) error {
	return poll(ctx, func() error {
		for _, n := range c.running() {
			if !done(n) {
				return fmt.Errorf("server %s has not changed the stream yet", n.name)
			}
		}
		return nil
	})
}

// mark publishes a message and waits for the answer, whatever it is: what was queued before has been dealt with.
func (c *Cluster) mark(ctx context.Context, stream string) error {
	return request(ctx, func(ctx context.Context) error {
		_, err := c.js.Publish(ctx, seized(stream), nil, jetstream.WithRetryAttempts(0))
		if _, answered := errors.AsType[*jetstream.APIError](err); answered {
			return nil
		}
		return err
	})
}

// seized is the only subject of a stream that is being seized.
func seized(stream string) string { return "natstest.seized." + stream }

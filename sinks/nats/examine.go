package natssink

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// Examine looks at the stream that messages are published to, and returns a sinks.UnfitError if it cannot confirm them. Another error means
// that it could not be looked at, and nil that nothing is known against it: without a stream's name there is none to look at.
func (s *Sink) Examine(ctx context.Context) error {
	if s.cfg.Core || s.cfg.Stream == "" {
		return nil
	}
	c, err := s.link.get()
	if err != nil {
		return err
	}
	stream, err := c.js.Stream(ctx, s.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return &sinks.UnfitError{Text: fmt.Sprintf("stream %s does not exist", s.cfg.Stream), Remedy: fmt.Sprintf("nats stream add %s --subjects '%s>'", s.cfg.Stream, s.cfg.Prefix)}
	}
	if err != nil {
		return err
	}
	config := stream.CachedInfo().Config
	switch {
	case config.NoAck:
		return &sinks.UnfitError{Text: fmt.Sprintf("stream %s has no_ack set: it never confirms a message, so each is sent again for ever", s.cfg.Stream),
			Remedy: fmt.Sprintf("nats stream edit %s --ack", s.cfg.Stream)}
	case config.Mirror != nil:
		return &sinks.UnfitError{Text: fmt.Sprintf("stream %s is a mirror of %s: nothing can be published to it", s.cfg.Stream, config.Mirror.Name),
			Remedy: "name a stream in the sink that has subjects of its own"}
	case config.Sealed:
		return &sinks.UnfitError{Text: fmt.Sprintf("stream %s is sealed: nothing can be published to it", s.cfg.Stream), Remedy: "name another stream in the sink"}
	}
	return nil
}

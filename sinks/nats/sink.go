package natssink

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/sinks"
)

// Sink publishes to one NATS system over one connection.
type Sink struct {
	cfg     Config
	link    *link
	pending *semaphore.Weighted
}

var _ sinks.Sink = (*Sink)(nil)

// New opens a sink. It tries to connect once, for about two seconds per server at most and not after ctx has ended, but a
// NATS that is down is no error: then deliveries are Unavailable until it is up. An error names the setting that is wrong.
func New(ctx context.Context, cfg Config) (*Sink, error) { return newSink(ctx, cfg, nil) }

// newSink is New with a meter of connections; nil: nobody counts.
func newSink(ctx context.Context, cfg Config, meter *sinks.Meter) (*Sink, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.learn() {
		cfg.Log.Warn("the sink's URL holds a password or token, which whoever may read subscriptions sees in the database: " +
			"use the options password or token, which refer to it")
	}
	id, err := cfg.Auth.read(cfg.Log, cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("NATS %w", err)
	}
	l, err := newLink(ctx, cfg, id, meter)
	if err != nil {
		return nil, err
	}
	return &Sink{cfg: cfg, link: l, pending: semaphore.NewWeighted(int64(cfg.MaxPending))}, nil
}

// Limits returns the configured lanes and batch.
func (s *Sink) Limits() sinks.Limits { return sinks.Limits{Lanes: s.cfg.Lanes, Batch: s.cfg.Batch} }

// Close closes the connection.
func (s *Sink) Close() error { return s.link.close() }

// Deliver publishes the batch and waits for the acknowledgements, in parts if it exceeds what may be pending at once.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	all := outcomes
	defer func() {
		for i, err := range all {
			all[i] = sinks.RedactOutcome(&s.cfg.Secrets.Redactor, err)
		}
	}()
	for len(batch) > 0 {
		n := min(len(batch), s.cfg.MaxPending)
		s.deliver(ctx, batch[:n], outcomes[:n])
		batch, outcomes = batch[n:], outcomes[n:]
	}
}

func (s *Sink) deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	n := int64(len(batch))
	if err := s.pending.Acquire(ctx, n); err != nil {
		fill(outcomes, err)
		return
	}
	defer s.pending.Release(n)
	if err := ctx.Err(); err != nil {
		fill(outcomes, err)
		return
	}
	c, err := s.link.get()
	if err != nil {
		fill(outcomes, unconnected(err))
		return
	}
	if s.cfg.Core {
		s.publishCore(ctx, c, batch, outcomes)
	} else {
		s.publish(ctx, c, batch, outcomes)
	}
}

func fill(outcomes []error, err error) {
	for i := range outcomes {
		outcomes[i] = err
	}
}

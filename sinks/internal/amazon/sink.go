package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Defaults of a subscription's settings.
const (
	DefaultTimeout = 10 * time.Second
	DefaultLanes   = 4
	DefaultBatch   = MostEntries
)

// Service is what takes messages, in queues or topics.
type Service struct {
	Name, Scheme        string
	Example, ReplayNote string
	Resource            string // what a message is sent to: queue, topic
	LongestName         int    // of a queue or topic, with .fifo, in bytes
	// Client returns what speaks with the service about one of them. Endpoint is nil where the service's own is meant.
	Client func(to Resource, endpoint *string, link *Connection) Client
}

// Client speaks with a service about one queue or topic.
type Client interface {
	Send(ctx context.Context, entries []Entry) (map[string]error, error) // as a Send
	// MaxMessageBytes asks how large messages may be there. Empty: it does not say.
	MaxMessageBytes(ctx context.Context) (string, error)
}

// Destination is the service as a destination.
func (s Service) Destination() sinks.Destination {
	return sinks.Destination{
		Name: s.Name, Schemes: []string{s.Scheme}, Example: s.Example, Options: Options{}, ReplayNote: s.ReplayNote,
		Check: s.check,
		Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
			sink, err := s.open(t, with)
			if err != nil {
				return nil, err
			}
			return sink, nil
		},
		Examine: s.examine,
	}
}

func (s Service) check(t sinks.Target, secrets *secret.Store) error {
	c, err := s.parse(t)
	if err != nil || secrets == nil {
		return err
	}
	return c.CheckHere(secrets)
}

// settings are a target's URL and options together.
type settings struct {
	Options
	to      Resource // of a queue, Account may be empty: that of the credentials
	timeout time.Duration
}

// parse reads a target. What is wrong with the options is a sinks.OptionsError.
func (s Service) parse(t sinks.Target) (*settings, error) {
	c := &settings{timeout: cmp.Or(t.Timeout, DefaultTimeout)}
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return nil, err
	}
	var err error
	if c.to, err = c.ParseURL(t.URL, s.Scheme, s.LongestName); err != nil {
		return nil, fmt.Errorf("the sink's URL %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return c, nil
}

// Sink sends to one queue or topic.
type Sink struct {
	*settings
	Client
	Link   *Connection
	limits sinks.Limits
}

var _ sinks.Sink = (*Sink)(nil)

func (s Service) open(t sinks.Target, with sinks.Surroundings) (*Sink, error) {
	c, err := s.parse(t)
	if err != nil {
		return nil, err
	}
	link, err := c.Connect(with.Log, with.Secrets, with.Meter)
	if err != nil {
		return nil, err
	}
	var endpoint *string
	if c.Endpoint != "" {
		endpoint = &c.Endpoint
	}
	limits := sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}
	return &Sink{settings: c, Client: s.Client(c.to, endpoint, link), Link: link, limits: limits}, nil
}

// Limits implements sinks.Sink.
func (s *Sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *Sink) Close() error {
	s.Link.Close()
	return nil
}

// Deliver implements sinks.Sink.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.Options.Deliver(ctx, s.to.FIFO, batch, outcomes, s.Send)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(s.Link.Redact(), err)
	}
}

const examineTimeout = 10 * time.Second

// examine looks for the queue or topic, and for how large its messages may be. It sends nothing.
func (s Service) examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	sink, err := s.open(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	said, err := sink.Client.MaxMessageBytes(ctx)
	switch {
	case Denied(err):
		return nil // what may not be asked is not known
	case err != nil:
		return Unfit(sinks.RedactOutcome(sink.Link.Redact(), Outcome(err)))
	}
	if most, err := strconv.Atoi(said); err == nil && most < sink.Options.MaxMessageBytes {
		return &sinks.UnfitError{
			Text:   fmt.Sprintf("the %s takes messages of at most %d bytes, max_message_bytes is %d", s.Resource, most, sink.Options.MaxMessageBytes),
			Remedy: fmt.Sprintf("raise the %s's MaximumMessageSize, or lower max_message_bytes", s.Resource), Risk: true,
		}
	}
	return nil
}

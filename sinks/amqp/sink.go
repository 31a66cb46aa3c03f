package amqpsink

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is RabbitMQ, and what speaks AMQP 0-9-1 with publisher confirms.
var Destination = sinks.Destination{
	Name:       "AMQP",
	Schemes:    []string{"amqp", "amqps"},
	Example:    "amqp://host:5672/vhost?exchange=orders",
	Options:    Options{},
	ReplayNote: "The exchange routes what is replayed once more: consumers see it again, with the same message-id, behind newer messages.",
	Check:      check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := newSink(t, with)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	d, err := newDialer(c, slog.New(slog.DiscardHandler), secrets)
	if err == nil && c.secure {
		_, err = c.TLS.Config("a.example", d.wires.Secrets)
	}
	return err
}

// sink publishes.
type sink struct {
	*dialer
	limits sinks.Limits
	life   context.Context // ends with Close
	end    context.CancelFunc

	mu      sync.Mutex
	link    *link    // nil: there has been none yet
	attempt *attempt // to make one; nil: none is under way
	turn    int      // which of the servers comes first
	making  sync.WaitGroup
}

// attempt is one to connect.
type attempt struct {
	done chan struct{}
	link *link
	err  error
}

var _ sinks.Sink = (*sink)(nil)

func newSink(t sinks.Target, with sinks.Surroundings) (*sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	d, err := newDialer(c, with.Log, with.Secrets)
	if err != nil {
		return nil, err
	}
	if !c.secure && c.Password != "" && with.Log != nil {
		with.Log.Warn("the password goes over the network as it is: use amqps:// (TLS)")
	}
	s := &sink{dialer: d, limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error {
	s.end()
	s.making.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil
	}
	return s.link.close()
}

// ready returns a connection, which it makes if there is none. That goes on though ctx ends: whoever comes next finds it.
func (s *sink) ready(ctx context.Context) (*link, error) {
	s.mu.Lock()
	if s.link != nil && !s.link.gone() {
		defer s.mu.Unlock()
		return s.link, nil
	}
	a := s.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		s.attempt = a
		old, turn := s.link, s.turn
		s.turn++
		s.making.Go(func() { s.make(a, old, turn) })
	}
	s.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, errors.Join(errConnecting, ctx.Err())
	}
}

var errConnecting = errors.New("there is no connection yet")

func (s *sink) make(a *attempt, old *link, turn int) {
	if old != nil {
		old.reset()
		<-old.done
	}
	a.link, a.err = s.connect(s.life, turn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt = nil
	if a.err == nil {
		s.link = a.link
	}
	close(a.done)
}

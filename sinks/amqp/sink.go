package amqpsink

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
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
	shared *wire.Shared[*link]
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
	d.meter = with.Meter
	limits := sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}
	return &sink{dialer: d, limits: limits, shared: wire.NewShared(with.Meter, d.reconnect)}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error { return s.shared.Close() }

// reconnect connects after the last connection has ended with all that was on its way.
func (d *dialer) reconnect(ctx context.Context, old *link, turn int) (*link, error) {
	if old != nil {
		old.reset()
		<-old.done
	}
	return d.connect(ctx, turn)
}

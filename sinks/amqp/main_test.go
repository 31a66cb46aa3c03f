package amqpsink

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/rabbittest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// shared is the server that all tests have which do nothing to it; nil until the first of them.
var shared *rabbittest.Server

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		if err := shared.End(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// common returns the server that tests share.
func common(t testing.TB) *rabbittest.Server {
	t.Helper()
	if shared == nil {
		shared = rabbittest.Start(t)
	}
	return shared
}

var names atomic.Int64

// broker is a test's own exchange with a queue behind it, and a network in front.
type broker struct {
	*rabbittest.Server
	t               testing.TB
	exchange, queue string
	link            *linktest.InTest
	got             []sinktest.Received
}

// newBroker makes an exchange, of the kind topic, with a queue that takes all.
func newBroker(t testing.TB, s *rabbittest.Server) *broker {
	t.Helper()
	b := &broker{Server: s, t: t, exchange: fmt.Sprintf("x%d", names.Add(1)), link: linktest.New(t, s.Addr())}
	b.queue = "q" + b.exchange
	b.declare(nil)
	return b
}

func (b *broker) channel(do func(c *amqp.Channel) error) {
	b.t.Helper()
	b.Channel(b.t, do)
}

func (b *broker) declare(args amqp.Table) {
	b.t.Helper()
	b.Declare(b.t, b.exchange, b.queue, args)
}

func (b *broker) url(query string) string { return "amqp://" + b.link.Addr() + query }

func (b *broker) target(options string) sinks.Target {
	return sinks.Target{URL: b.url("?exchange=" + b.exchange), Options: json.RawMessage(options)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (b *broker) open(options string) sinks.Sink { return b.to(b.target(options)) }

// to opens a sink that the test's end closes.
func (b *broker) to(target sinks.Target) sinks.Sink {
	b.t.Helper()
	sink := open(b.t, target)
	b.t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return sink
}

// received is what the queue has got so far.
func (b *broker) received() []sinktest.Received {
	b.t.Helper()
	for _, m := range b.Drain(b.t, b.queue) {
		b.got = append(b.got, receivedFrom(b.t, m))
	}
	return b.got
}

func receivedFrom(t testing.TB, m amqp.Delivery) sinktest.Received {
	t.Helper()
	r := sinktest.Received{MessageID: m.MessageId, Topic: m.RoutingKey, Payload: m.Body, ContentType: m.ContentType, Headers: map[string]string{}}
	for name, value := range m.Headers {
		switch v := value.(type) {
		case string:
			r.Headers[strings.ToLower(name)] = v
		case int32:
			r.Headers[strings.ToLower(name)] = fmt.Sprint(v)
		}
	}
	r.Key, r.Subscription = r.Headers["postrider-key"], r.Headers["postrider-subscription"]
	if _, err := fmt.Sscan(r.Headers["postrider-attempt"], &r.Attempt); err != nil {
		t.Errorf("attempt %q: %v", r.Headers["postrider-attempt"], err)
	}
	return r
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		b := newBroker(t, common(t))
		return &sinktest.Harness{
			Open:     func(t testing.TB) sinks.Sink { return open(t, b.target(`{"max_message_bytes": 1048576}`)) },
			Received: b.received,
			TooLarge: 1<<20 + 1,
			Down:     b.link.Down, Hang: b.link.Hang, Up: b.link.Up,
		}
	})
}

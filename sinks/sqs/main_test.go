package sqssink

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/amazontest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a server, a network that can fail, and sinks that go through it.
type scene struct {
	*amazontest.Server
	t    *testing.T
	link *linktest.InTest
}

func newScene(t *testing.T, queues ...string) *scene {
	t.Helper()
	t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
	server := amazontest.New(t, queues...)
	return &scene{Server: server, t: t, link: linktest.New(t, server.Listener.Addr().String())}
}

// target is a queue of the server; more are options beside the credentials.
func (s *scene) target(queue, more string) sinks.Target {
	options := fmt.Sprintf(`{"endpoint": "http://%s", "access_key_id": "%s", "secret_access_key": "env:POSTRIDER_SECRET_KEY"%s}`, s.link.Addr(), amazontest.AccessKeyID, more)
	return sinks.Target{URL: "sqs://" + queue + "?region=eu-central-1", Options: json.RawMessage(options)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (s *scene) to(target sinks.Target) sinks.Sink {
	s.t.Helper()
	sink := open(s.t, target)
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

func (s *scene) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(s.t.Context(), sink, batch...)
}

// received is what the queues have taken.
func (s *scene) received() []sinktest.Received { return amazontest.Received(s.t, s.Taken()) }

func TestConformance(t *testing.T) {
	for _, queue := range []string{"orders", "orders.fifo"} {
		t.Run(queue, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				s := newScene(t, queue)
				return &sinktest.Harness{
					Open:     func(t testing.TB) sinks.Sink { return open(t, s.target(queue, "")) },
					Received: s.received, TooLarge: 256<<10 + 1, NoAttempt: true,
					Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
				}
			})
		})
	}
}

// TestMoto is the suite against an implementation that is not ours.
func TestMoto(t *testing.T) {
	address := amazontest.Moto(t)
	for kind, attributes := range map[string]map[string]string{"": nil, ".fifo": {"FifoQueue": "true"}} {
		t.Run("queue"+kind, func(t *testing.T) {
			n := 0
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
				n++
				queue := fmt.Sprintf("q%d%s", n, kind)
				s := &scene{t: t, link: linktest.New(t, address)}
				c := amazontest.NewConsumer(t, address, queue, attributes)
				return &sinktest.Harness{
					Open: func(t testing.TB) sinks.Sink {
						target := s.target(queue, "")
						target.Lanes, target.Batch = 1, 3 // it is slow
						return open(t, target)
					},
					Received: c.Received, TooLarge: 256<<10 + 1, NoAttempt: true,
					Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
				}
			})
		})
	}
}

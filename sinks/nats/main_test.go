package natssink

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer starts a NATS server on a loopback port of its own, with JetStream unless change turns it off.
func startServer(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()}
	if change != nil {
		change(opts)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(sinktest.Patience) {
		t.Fatal("the NATS server did not start")
	}
	return srv
}

func client(t testing.TB, srv *server.Server) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func addStream(t testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	stream, err := js.CreateStream(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func open(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func deliver(t testing.TB, s sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(t.Context(), s, batch...)
}

func received(t testing.TB, subject string, h nats.Header, data []byte) sinktest.Received {
	key, err := url.PathUnescape(h.Get("Postrider-Key"))
	if err != nil {
		t.Error(err)
	}
	r := sinktest.Received{
		MessageID: h.Get("Nats-Msg-Id"), Topic: strings.TrimPrefix(subject, "pg."), Key: key, Payload: data,
		ContentType: "application/json", Headers: map[string]string{},
	}
	if kind := h.Get("Content-Type"); kind != "" {
		r.ContentType = kind
	}
	for name, values := range h {
		r.Headers[strings.ToLower(name)] = strings.Join(values, "|")
	}
	return r
}

// reader reads a stream from its first message on.
type reader struct {
	t      testing.TB
	stream jetstream.Stream
	got    []sinktest.Received
}

func (r *reader) read() []sinktest.Received {
	info, err := r.stream.Info(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(len(r.got)) + 1; seq <= info.State.LastSeq; seq++ {
		m, err := r.stream.GetMsg(context.Background(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		r.got = append(r.got, received(r.t, m.Subject, m.Header, m.Data))
	}
	return r.got
}

func TestConformance(t *testing.T) {
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		srv := startServer(t, func(o *server.Options) { o.MaxPayload = 256 << 10 })
		_, js := client(t, srv)
		r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"pg.>"}})}
		link := linktest.New(t, srv.Addr().String())
		return harness(link, r.read, Config{Stream: "PG"})
	})
}

func TestConformanceCore(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		srv := startServer(t, func(o *server.Options) { o.MaxPayload = 256 << 10; o.JetStream = false })
		nc, _ := client(t, srv)
		var mu sync.Mutex
		var got []sinktest.Received
		if _, err := nc.Subscribe("pg.>", func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			if m.Reply != "" {
				_ = m.Respond(nil)
				return
			}
			got = append(got, received(t, m.Subject, m.Header, m.Data))
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		read := func() []sinktest.Received {
			// What the server has read before this request reaches the subscriber before it.
			if _, err := nc.Request("pg.barrier", nil, sinktest.Patience); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			return append([]sinktest.Received(nil), got...)
		}
		return harness(linktest.New(t, srv.Addr().String()), read, Config{Core: true})
	})
}

func harness(link *linktest.InTest, read func() []sinktest.Received, cfg Config) *sinktest.Harness {
	cfg.Servers = []string{"nats://" + link.Addr()}
	cfg.Prefix = "pg."
	cfg.AckTimeout = 4 * time.Second
	return &sinktest.Harness{
		Open: func(t testing.TB) sinks.Sink {
			s, err := New(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Received: read, TooLarge: 256 << 10, NoAttempt: true,
		Down: link.Down, Hang: link.Hang, Up: link.Up,
	}
}

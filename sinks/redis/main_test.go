package redissink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/brokertest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A cluster's client closes connections to servers that have left after some seconds, in a goroutine of its own.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// server is a redis-server of a test's own.
type server struct {
	*brokertest.Server
	t      testing.TB
	client rueidis.Client
	link   *linktest.InTest
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{Server: brokertest.Redis(t, args...), t: t}
	s.link = linktest.New(t, s.Addr())
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s.client = client
	return s
}

func (s *server) do(command string, args ...string) string {
	s.t.Helper()
	got, err := s.client.Do(s.t.Context(), s.client.B().Arbitrary(command).Args(args...).Build()).ToAny()
	if err != nil && !rueidis.IsRedisNil(err) {
		s.t.Fatalf("%s %v: %v", command, args, err)
	}
	return fmt.Sprint(got)
}

func (s *server) url(query string) string { return "redis://" + s.link.Addr() + query }

func (s *server) open(t testing.TB, query, options string) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), sinks.Target{URL: s.url(query), Options: json.RawMessage(options)}, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (s *server) to(query, options string) sinks.Sink {
	sink := s.open(s.t, query, options)
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

// metered is to, with one who counts.
func (s *server) metered(query, options string, meter *sinks.Meter) sinks.Sink {
	s.t.Helper()
	sink, err := Destination.Open(s.t.Context(), sinks.Target{URL: s.url(query), Options: json.RawMessage(options)}, sinks.Surroundings{Log: slog.New(slog.DiscardHandler), Meter: meter})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

// received is what the streams hold, by one after the other.
func (s *server) received(streams ...string) (list []sinktest.Received) {
	s.t.Helper()
	for _, stream := range streams {
		entries, err := s.client.Do(context.Background(), s.client.B().Xrange().Key(stream).Start("-").End("+").Build()).AsXRange()
		if err != nil && !rueidis.IsRedisNil(err) {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			f := e.FieldValues
			r := sinktest.Received{MessageID: f["message_id"], Topic: f["topic"], Key: f["key"], Payload: []byte(f["payload"]), ContentType: f["content_type"],
				Subscription: f["subscription"], Headers: map[string]string{}}
			if _, err := fmt.Sscan(f["attempt"], &r.Attempt); err != nil {
				s.t.Errorf("attempt %q: %v", f["attempt"], err)
			}
			for name, value := range f {
				if own, ok := strings.CutPrefix(name, "header."); ok {
					r.Headers[strings.ToLower(own)] = value
				}
			}
			list = append(list, r)
		}
	}
	return list
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		s := startServer(t)
		return &sinktest.Harness{
			Open:     func(t testing.TB) sinks.Sink { return s.open(t, "?stream=all", `{"max_message_bytes": 1048576}`) },
			Received: func() []sinktest.Received { return s.received("all") },
			TooLarge: 1<<20 + 1,
			Down:     s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
		}
	})
}

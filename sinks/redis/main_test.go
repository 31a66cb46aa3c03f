package redissink

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/apt"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A cluster's client closes connections to servers that have left after some seconds, in a goroutine of its own.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// program is redis-server, which is installed where that may be.
func program(t testing.TB) string {
	t.Helper()
	find := func() (string, error) { return exec.LookPath("redis-server") }
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("Redis", find, func() error { return apt.Install(context.Background(), os.Stderr, "redis-server") })
	}
	if err != nil {
		t.Skipf("NOT TESTED, Redis: %v: `apt-get install redis-server` installs it", err)
	}
	return path
}

// server is a redis-server of a test's own.
type server struct {
	t       testing.TB
	dir     string
	port    string
	args    []string
	cmd     *exec.Cmd
	exited  chan error
	client  rueidis.Client
	link    *linktest.InTest
	program string
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: t.TempDir(), port: port, args: args, program: program(t)}
	s.start()
	t.Cleanup(s.stop)
	s.link = linktest.New(t, s.addr())
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s.client = client
	return s
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, append([]string{"--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--logfile", filepath.Join(s.dir, "log"), "--enable-debug-command", "yes"}, s.args...)...)
	s.cmd.Stdout = os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	go func() { s.exited <- s.cmd.Wait() }()
	for deadline := time.Now().Add(sinktest.Patience); ; {
		if s.pings() {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("redis-server does not answer:\n%s", text)
		}
	}
}

func (s *server) pings() bool {
	conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && (strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH"))
}

// stop kills it.
func (s *server) stop() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
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

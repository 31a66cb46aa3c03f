package natstest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"Servers is 2":           {Servers: 2, Dir: t.TempDir()},
		"Dir is empty":           {Servers: 1},
		"/dev/null: not a direc": {Servers: 1, Dir: "/dev/null"},
	} {
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestRestartKeepsPortAndMessages(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	publish(t, c, 0, 1000)
	url := c.URL()
	if urls := c.URLs(); len(urls) != 1 || urls[0] != url {
		t.Errorf("URL %s, URLs %v", url, urls)
	}
	if err := c.Restart(limited(t), 0); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, c, 1000)
	if i, err := c.StopLeader(limited(t), "S"); i != 0 || err != nil || c.Running(0) {
		t.Fatal(i, err)
	}
	c.StopServer(0)
	for range 2 {
		if err := c.StartServer(limited(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	wantNumbers(t, c, 1000)
	if text, err := os.ReadFile(c.nodes[0].dir + "/n0.log"); err != nil || strings.Count(string(text), "Server is ready") != 3 {
		t.Errorf("the log is %s, %v", text, err)
	}
	c.Stop()
	c.Stop()
	if err := c.StartServer(limited(t), 0); err == nil {
		t.Error("a stopped cluster was started")
	}
}

// A port that is taken must end neither the process nor the wait.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	c.StopServer(0)
	l, err := net.Listen("tcp", c.nodes[0].addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := c.StartServer(limited(t), 0); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatal(err)
	}
	l.Close()
	if err := c.StartServer(limited(t), 0); err != nil {
		t.Fatal(err)
	}
}

func TestReadGoesOnAfterRestarts(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	const n = 12_000
	publish(t, c, 0, n)
	var next uint64 = 1
	last, err := c.Read(limited(t), "S", 0, func(m Message) {
		if m.Seq != next {
			t.Fatalf("message %d after %d", m.Seq, next-1)
		}
		if next++; m.Seq%4000 == 2000 {
			if err := c.Restart(limited(t), 0); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || last != n {
		t.Fatal(last, err)
	}
	publish(t, c, n, 10)
	if last, err := c.Read(limited(t), "S", n, func(m Message) {
		if m.Seq <= n {
			t.Errorf("message %d again", m.Seq)
		}
	}); err != nil || last != n+10 {
		t.Error(last, err)
	}
}

func TestReadMissesWhatWasRemoved(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	if err := c.ReadAll(limited(t), "S", func(Message) { t.Error("a message") }); err != nil {
		t.Error(err)
	}
	publish(t, c, 0, 10)
	s, err := c.js.Stream(limited(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(limited(t), 5); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := c.ReadAll(limited(t), "S", func(Message) { n++ }); !errors.Is(err, errMissing) || n != 4 {
		t.Errorf("read %d messages, %v", n, err)
	}
	if err := s.Purge(limited(t)); err != nil {
		t.Fatal(err)
	}
	if last, err := c.Read(limited(t), "S", 2, func(Message) {}); !errors.Is(err, errMissing) || last != 2 {
		t.Error(last, err)
	}
	if _, err := c.Read(limited(t), "S", 11, func(Message) {}); !errors.Is(err, errMissing) {
		t.Error(err)
	}
	if err := c.ReadAll(limited(t), "T", func(Message) {}); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	publish(t, c, 0, 100)
	if err := c.Limit(limited(t), "S", 1, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.Publish(limited(t), "s.x", nil); err == nil || !strings.Contains(err.Error(), "maximum messages exceeded") {
		t.Errorf("publishing to a full stream: %v", err)
	}
	if err := c.Limit(limited(t), "S", -1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.Publish(limited(t), "s.x", nil); err == nil || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("publishing to a full stream: %v", err)
	}
	if err := c.Limit(limited(t), "S", -1, -1); err != nil {
		t.Fatal(err)
	}
	publish(t, c, 100, 100)
	wantNumbers(t, c, 200)
}

func BenchmarkRead(b *testing.B) {
	c := start(b, 1)
	publish(b, c, 0, 100_000)
	for b.Loop() {
		wantNumbers(b, c, 100_000)
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

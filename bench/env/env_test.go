package env

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/system"
)

func init() {
	child.Register("burn", func([]string) {
		child.Ready()
		ctx, stop := child.Context()
		defer stop()
		for memory := make([]byte, 64<<20); ctx.Err() == nil; {
			for i := range memory {
				memory[i]++
			}
		}
	})
}

func TestMain(m *testing.M) {
	child.Run()
	code := m.Run()
	if err := errors.Join(child.Dismiss(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat([]byte("7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 55"))
	if !ok || p.parent != 3 || p.cpu != 1240*time.Millisecond {
		t.Errorf("%+v, %v", p, ok)
	}
	for _, text := range []string{"", "7 (a", "7 (a) S 3"} {
		if _, ok := parseStat([]byte(text)); ok {
			t.Errorf("%q is taken", text)
		}
	}
	if n := parseKB([]byte("Name:\tx\nVmRSS:\t     12 kB\n"), "VmRSS:"); n != 12<<10 {
		t.Errorf("%d bytes", n)
	}
}

func TestTree(t *testing.T) {
	table := map[int]proc{1: {}, 5: {parent: 1}, 6: {parent: 5}, 7: {parent: 6}, 8: {parent: 1}}
	if got := fmt.Sprint(tree(table, 5)); got != "[5 6 7]" {
		t.Error(got)
	}
}

func TestArrivals(t *testing.T) {
	var a Arrivals
	at := time.Unix(1, 0)
	for _, n := range []int64{2, 70_000, 2, 0, -1} {
		a.Add(n, at)
		at = at.Add(time.Second)
	}
	times := a.Times()
	if a.Count() != 2 || a.Again() != 1 || times[2] != 1e9 || times[70_000] != 2e9 || times[3] != 0 {
		t.Errorf("%d, %d again, %v", a.Count(), a.Again(), times[:4])
	}
}

// TestEnv starts everything and looks whether it counts right.
func TestEnv(t *testing.T) {
	e, err := Start(t.Context(), t.TempDir(), io.Discard, pin.Processors{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	t.Run("NATS", func(t *testing.T) { natsCounts(t, e.NATS) })
	t.Run("webhooks", func(t *testing.T) { hookCounts(t, e.Hook) })
	t.Run("webhooks over TLS", func(t *testing.T) { hookOverTLS(t, e.Hook) })
	t.Run("costs", func(t *testing.T) { meterMeasures(t, e) })
}

func natsCounts(t *testing.T, n *NATS) {
	for range 2 { // the second time there is something to clear
		if err := n.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, stop, err := n.Subscribe("bench.>")
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		for i := range 3 {
			if _, err := n.JS.Publish(t.Context(), "bench.t1", system.Payload(int64(i+1))); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "three arrivals", func() bool { return a.Count() == 3 })
		if count, err := n.Count(t.Context()); count != 3 || err != nil {
			t.Errorf("%d messages, %v", count, err)
		}
	}
}

func hookCounts(t *testing.T, h *Hook) {
	if err := h.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Answer(t.Context(), "/down", 503), h.Answer(t.Context(), "/cut", 0)); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	for _, c := range []struct {
		path   string
		n      int64
		status int
	}{{"/a", 1, 204}, {"/a", 3, 204}, {"/a", 3, 204}, {"/b", 1, 204}, {"/down", 1, 503}, {"/cut", 1, 0}} {
		if got := post(t, h.URL+c.path, c.n); got != c.status {
			t.Errorf("%s answers %d, want %d", c.path, got, c.status)
		}
	}
	for path, want := range map[string]int64{"/a": 2, "/b": 1, "/down": 0, "/cut": 0, "": 3} {
		if got, err := h.Count(t.Context(), path); got != want || err != nil {
			t.Errorf("%s has %d, %v, want %d", path, got, err, want)
		}
	}
	times, err := h.Times(t.Context(), "/a")
	if err != nil || len(times) < 4 || times[2] != 0 || times[3] < before.UnixNano() || times[3] > time.Now().UnixNano() {
		t.Errorf("%d times, %v", len(times), err)
	}
}

// post returns the status, 0 if there was no answer.
func post(t *testing.T, url string, n int64) int {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post(url, "application/json", bytes.NewReader(system.Payload(n)))
	if err != nil {
		return 0
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

func meterMeasures(t *testing.T, e *Env) {
	ctx := t.Context()
	name, url, err := e.NewDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Meter(ctx, Watch{Database: url, Tables: []string{"pg\\_catalog.pg\\_class"}})
	if err != nil {
		t.Fatal(err)
	}
	burn, err := child.Start(ctx, child.Spec{Name: "burn", Cmd: child.Command(context.WithoutCancel(ctx), "burn"), Log: e.Dir + "/burn.log", AwaitReady: true})
	if err != nil {
		t.Fatal(err)
	}
	m.Follow(burn.PID())
	eventually(t, "half a second of CPU time", func() bool { return cpu(burn.PID()) > 500*time.Millisecond })
	if _, err := e.Admin.Exec(ctx, "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "memory", func() bool { return resident(burn.PID()) > 60<<20 })
	<-time.After(250 * time.Millisecond) // the meter looks ten times a second
	c, err := m.End(ctx)
	if err := errors.Join(err, burn.Stop(), e.DropDatabase(ctx, name)); err != nil {
		t.Fatal(err)
	}
	if c.Relay.CPU < 500*time.Millisecond || c.Relay.CPU > 2*c.Time || c.Relay.Peak < 60<<20 || c.Relay.Peak > 200<<20 || c.WAL < 1_000_000 || c.WAL > 5_000_000 {
		t.Errorf("%+v", c)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

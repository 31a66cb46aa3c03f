package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/scenario"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/bare"
)

func TestMain(m *testing.M) {
	child.Run()
	code := m.Run()
	if err := errors.Join(child.Dismiss(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// backlog and rate of the small measurement.
const (
	backlog = 1000
	rate    = 200
)

// small drains a little to both destinations and then produces for a moment, with each of our own systems.
func small(ctx context.Context, b *scenario.Bench) (t report.Table, err error) {
	for to, systems := range map[scenario.Kind][]system.System{scenario.NATS: b.Own[:4], scenario.Webhook: {b.Own[0], b.Own[2]}} {
		rows, err := b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
			return b.Drain(ctx, s, scenario.Drain{To: to, Messages: backlog})
		})
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, rows...)
	}
	batches := scenario.Drain{Messages: backlog, Prepare: func(ctx context.Context, _ *scenario.Stage) error { return b.Env.NATS.AllowBatches(ctx) }}
	rows, err := b.Each(ctx, []system.System{bare.NewBatches()}, func(ctx context.Context, s system.System) (report.Row, error) { return b.Drain(ctx, s, batches) })
	if err != nil {
		return t, err
	}
	t.Rows = append(t.Rows, rows...)
	rows, err = b.Each(ctx, b.Own[:1], func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Live(ctx, s, scenario.Live{Rate: rate, Duration: time.Second})
	})
	t.Rows = append(t.Rows, rows...)
	return t, err
}

// TestEndToEnd runs a small scenario against the real thing, and looks whether what comes out can be right.
func TestEndToEnd(t *testing.T) {
	_, own, _ := chosen(options{})
	pins := pinsOfTwo(t)
	e, err := env.Start(t.Context(), t.TempDir(), io.Discard, pins)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	b := &scenario.Bench{Env: e, Own: own, Log: t.Logf}
	checkPins(t, b, pins)
	summary, err := describe(t.Context(), e, false)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	dir := filepath.Join(t.TempDir(), "results")
	err = measure(t.Context(), b, []scenario.Scenario{{Name: "drain-nats", Title: "small", Run: small}}, summary, dir, &out)
	if err == nil {
		err = finish(summary, dir, t.Logf)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", out.String())
	checkRows(t, summary.Tables[0].Rows)
	for _, name := range []string{"drain-nats.json", "summary.json", "chart.svg"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(text), "postrider stream") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	host, _ := os.Hostname()
	if text, _ := os.ReadFile(filepath.Join(dir, "summary.json")); strings.Contains(string(text), dir) || len(host) > 3 && strings.Contains(string(text), host) {
		t.Errorf("the summary tells where it was made:\n%s", text)
	}
}

// pinsOfTwo share two processors out, if there are two: no part has those of the one that starts it.
func pinsOfTwo(t *testing.T) (p pin.Processors) {
	cpus, err := pin.Allowed()
	if err != nil || len(cpus) < 2 {
		t.Logf("NOT TESTED: pinning takes two processors on Linux: %v, %v", cpus, err)
		return p
	}
	t.Cleanup(func() {
		if err := (pin.Processors{pin.Bench: cpus}).Move(pin.Bench, os.Getpid()); err != nil {
			t.Error(err)
		}
	})
	a, b := cpus[:1], cpus[1:2]
	return pin.Processors{pin.Postgres: a, pin.Relay: a, pin.Destination: a, pin.Bench: b}
}

// checkPins looks where all processes run.
func checkPins(t *testing.T, b *scenario.Bench, pins pin.Processors) {
	t.Helper()
	if len(pins[pin.Relay]) == 0 {
		return
	}
	st, err := b.Stage(t.Context(), b.Own[2], scenario.NATS)
	if err == nil {
		err = st.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for part, pid := range map[pin.Part][]int{pin.Postgres: {b.Env.PG.Pid()}, pin.Relay: {st.Process.PID()},
		pin.Destination: {b.Env.NATS.PID(), b.Env.Hook.PID()}, pin.Bench: {os.Getpid()}} {
		for _, pid := range pid {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if want := fmt.Sprintf("\nCpus_allowed_list:\t%d\n", pins[part][0]); err != nil || !strings.Contains(string(text), want) {
				t.Errorf("part %d, process %d: %v, want %s in\n%s", part, pid, err, want, text)
			}
		}
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

func checkRows(t *testing.T, rows []report.Row) {
	if len(rows) != 8 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, r := range rows {
		live := i == 7
		want := int64(backlog)
		if live {
			want = 2 * rate
		}
		if r.Error != "" || r.Messages != want || r.PostgresCPU < 0 || r.RelayPeak < 4<<20 || r.RelayPeak > 200<<20 {
			t.Errorf("%+v", r)
		}
		if l := r.Latency; live && (l == nil || l.Count < rate/2 || l.Count > 2*rate || l.P50 <= 0 || l.P50 > 1000 || r.WAL < 200 || r.Rate < rate/2) {
			t.Errorf("%+v, %+v", r, l)
		}
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-run", "^drain", "-systems", "bare pipe$", "-full", "-pin", "-replay", "7"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	scenarios, own, peers := chosen(o)
	if len(scenarios) != 5+len(bridge.All()) || len(own) != 1 || len(peers) != 0 || !o.full || !o.pin || o.replay != 7 || o.dir != "results" {
		t.Errorf("%d scenarios, %d and %d systems, %+v", len(scenarios), len(own), len(peers), o)
	}
	if p, said, err := pinning(o); err != nil || (p.String() == "") == strings.HasPrefix(said, "Pinned to processors: PostgreSQL ") || (p.String() == "") != strings.HasPrefix(said, "Not pinned to processors: PostgreSQL, the relay and") {
		t.Errorf("-pin: %v, %q, %v", p, said, err)
	}
	if p, said, err := pinning(options{}); p.String() != "" || said != "" || err != nil {
		t.Errorf("without -pin: %v, %q, %v", p, said, err)
	}
	for _, args := range [][]string{{"-run", "("}, {"drain"}, {"-nothing"}, {"-replay", "-1"}, {"-replay", "many"}, {"-backlog", "-1"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	o, err = parse([]string{"-tables", filepath.Join(t.TempDir(), "none.md")}, io.Discard)
	if err == nil {
		err = writeTables(o.tables, o.dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a page that is not there: %v", err)
	}
	o, err = parse([]string{"-run", "nothing"}, io.Discard)
	if err == nil {
		err = bench(t.Context(), o, io.Discard)
	}
	if err == nil || !strings.Contains(err.Error(), "-run nothing: no scenario has such a name") {
		t.Error(err)
	}
}

// TestWriteTables writes a page whose tables were lost.
func TestWriteTables(t *testing.T) {
	whole, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "performance.md")
	const row = "| webhook | postrider stream | "
	var text string
	for line := range strings.Lines(string(whole)) {
		if !strings.HasPrefix(line, row) {
			text += line
		}
	}
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err = writeTables(page, "results")
	got, readErr := os.ReadFile(page)
	if errors.Join(err, readErr) != nil || string(got) != string(whole) || text == string(whole) {
		t.Errorf("%v, %v: it is\n%s", err, readErr, got)
	}
}

// TestTimeUp has a scenario that is cut short, and one for which there is no time.
func TestTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, _ *scenario.Bench) (report.Table, error) {
			<-ctx.Done()
			return report.Table{Rows: []report.Row{{System: "half"}}}, context.Cause(ctx)
		}
		never := func(context.Context, *scenario.Bench) (report.Table, error) {
			t.Error("it runs")
			return report.Table{}, nil
		}
		list := []scenario.Scenario{{Name: "slow", Run: slow}, {Name: "never", Run: never}}
		var said, summary, out = "", report.Summary{Pinned: "Pinned to nothing."}, bytes.Buffer{}
		b := &scenario.Bench{Log: func(format string, args ...any) { said += fmt.Sprintf(format, args...) + "\n" }}
		began := time.Now()
		if err := measure(t.Context(), b, list, &summary, t.TempDir(), &out); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*time.Minute || len(summary.Tables) != 1 || !strings.Contains(out.String(), "not complete") || !strings.Contains(out.String(), "Pinned to nothing.") {
			t.Errorf("%v, %d tables\n%s", took, len(summary.Tables), out.String())
		}
		if !strings.Contains(said, "the time is up: never is left out") {
			t.Errorf("it says\n%s", said)
		}
		// A stop from outside is an error.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := measure(ctx, b, list, &summary, t.TempDir(), &out); !errors.Is(err, context.Canceled) {
			t.Errorf("after a stop: %v", err)
		}
	})
}

package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/scenario"
	"github.com/postrider/postrider/bench/system"
)

// TestBridges drains a little to each kind of destination, with each system that can deliver there, and then produces for a moment.
func TestBridges(t *testing.T) {
	_, own, peers := chosen(options{})
	e, err := env.Start(t.Context(), t.TempDir(), io.Discard, pin.Processors{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	b := &scenario.Bench{Env: e, Own: own, Log: t.Logf}
	for _, s := range peers {
		if s.Name() == "watermill tuned" {
			b.Peers = append(b.Peers, s)
		}
	}
	for _, k := range bridge.All() {
		t.Run(k.Name, func(t *testing.T) {
			table, err := b.Bridged(t.Context(), &k, func() (report.Table, error) { return smallBridge(t.Context(), b, &k) })
			if err != nil {
				t.Fatal(err)
			}
			if len(table.Rows) == 0 {
				t.Skip("NOT TESTED,", table.Notes)
			}
			checkBridge(t, k.Name, table.Rows)
		})
	}
}

// smallBridge is small for another kind of destination.
func smallBridge(ctx context.Context, b *scenario.Bench, k *bridge.Kind) (t report.Table, err error) {
	to := scenario.Kind(k.Name)
	t.Rows, err = b.Each(ctx, b.ToBridge(k), func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Drain(ctx, s, scenario.Drain{To: to, Messages: backlog})
	})
	if err != nil {
		return t, err
	}
	rows, err := b.Each(ctx, b.Own[:1], func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Live(ctx, s, scenario.Live{To: to, Rate: rate, Duration: time.Second})
	})
	t.Rows = append(t.Rows, rows...)
	return t, err
}

func checkBridge(t *testing.T, kind string, rows []report.Row) {
	t.Helper()
	names := ""
	for _, r := range rows {
		names += r.System + "; "
		if r.Error != "" {
			t.Errorf("%s: %s", r.System, r.Error)
		}
	}
	want := "postrider stream; bare pipe; bare pipe, all attributes; "
	if kind == "kafka" || kind == "amqp" {
		want += "watermill tuned; "
	}
	if want += "postrider stream; "; names != want {
		t.Errorf("the rows are those of %s, want %s", names, want)
	}
	for _, r := range rows[:len(rows)-1] {
		if r.Messages != backlog || r.RelayPeak < 4<<20 {
			t.Errorf("%+v", r)
		}
	}
	last := rows[len(rows)-1]
	if l := last.Latency; l == nil || l.Count < rate/2 || l.Count > 2*rate || l.P50 <= 0 || last.Messages != 2*rate || len(last.Extra) != 1 {
		t.Errorf("live: %+v, %+v", last, l)
	}
}

// TestApart: what takes a run of its own runs when it is asked for.
func TestApart(t *testing.T) {
	all, _, _ := chosen(options{})
	for _, s := range all {
		if s.Apart {
			t.Errorf("%s runs with the others", s.Name)
		}
	}
	var asked options
	if err := asked.run.Set("^(drain-redis|replica)$"); err != nil {
		t.Fatal(err)
	}
	if some, _, _ := chosen(asked); len(some) != 2 || !some[0].Apart || !some[1].Apart {
		t.Errorf("asked for, %+v run", some)
	}
	var out strings.Builder
	if err := bench(t.Context(), options{list: true}, &out); err != nil || !strings.Contains(out.String(), "beside a loop around the same client library (only with -run)\n") {
		t.Errorf("%v, the list is\n%s", err, out.String())
	}
}

// TestRunsOfTheirOwn has a little of the two that take a run of their own: a replay, from a standby and from the primary, and a backlog that is called large.
func TestRunsOfTheirOwn(t *testing.T) {
	_, own, _ := chosen(options{})
	e, err := env.Start(t.Context(), t.TempDir(), io.Discard, pin.Processors{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	b := &scenario.Bench{Env: e, Own: own, Replay: 2 * backlog, Backlog: 2 * backlog, Log: t.Logf}
	var asked options
	if err := asked.run.Set("^(replica|backlog-large)$"); err != nil {
		t.Fatal(err)
	}
	some, _, _ := chosen(asked)
	for i, check := range []func(*testing.T, []report.Row){checkReplica, checkLarge} {
		table, err := some[i].Run(t.Context(), b)
		if err != nil || len(table.Rows) != 2 {
			t.Fatalf("%v, %+v", err, table.Rows)
		}
		check(t, table.Rows)
	}
	kept, err := e.NATS.JS.Stream(t.Context(), env.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if c := kept.CachedInfo().Config; c.MaxMsgs != 1_000_000 || c.Duplicates != time.Second {
		t.Errorf("the stream of a large backlog keeps %d messages and knows ids for %v", c.MaxMsgs, c.Duplicates)
	}
}

func checkReplica(t *testing.T, rows []report.Row) {
	for i, name := range []string{"2,000, from the standby", "2,000, from the primary"} {
		r := rows[i]
		pages := r.Extra[0]
		if r.Error != "" || r.Case != name || r.Messages != 2*backlog || pages.Name != "pages read" || (pages.Value > 0) != (i == 0) {
			t.Errorf("%+v", r)
		}
	}
}

// checkLarge wants the relay's row to tell how long the status takes.
func checkLarge(t *testing.T, rows []report.Row) {
	for i, name := range []string{"postrider stream", "bare pipe"} {
		r := rows[i]
		if r.Error != "" || r.System != name || r.Case != "2,000" || r.Messages != 2*backlog {
			t.Errorf("%+v", r)
		}
		status := 0.0
		for _, f := range r.Extra {
			if f.Name == "status at rest" {
				status = f.Value
			}
		}
		if (status > 0) != (i == 0) {
			t.Errorf("%s: the status takes %v ms", name, status)
		}
	}
}

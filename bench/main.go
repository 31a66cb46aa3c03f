// Command bench measures Postrider beside the bare pipe and its peers: see docs/performance.md of the repository. It starts its
// own PostgreSQL and NATS server, prints a table for each scenario, writes results/*.json and results/chart.svg, and asserts nothing.
// Nothing that it starts outlives it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/scenario"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/all"
	"github.com/postrider/postrider/internal/measured"
)

// options come from the command line.
type options struct {
	run, systems pattern
	full, list   bool
	pin          bool
	replay       int
	backlog      int
	dir, tables  string
}

// pattern is a regular expression; its zero value matches everything.
type pattern struct{ *regexp.Regexp }

// Set parses text.
func (p *pattern) Set(text string) (err error) {
	p.Regexp, err = regexp.Compile(text)
	return err
}

// String is the text that was set.
func (p *pattern) String() string {
	if p.Regexp == nil {
		return ""
	}
	return p.Regexp.String()
}

func (p *pattern) matches(name string) bool { return p.Regexp == nil || p.MatchString(name) }

func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.Var(&o.run, "run", "run the scenarios whose name matches this regular `expression` (default: all but those that take a run of their own)")
	f.Var(&o.systems, "systems", "measure the systems whose name matches this regular `expression`")
	f.BoolVar(&o.full, "full", false, "full durations and sizes, without a limit of time")
	f.BoolVar(&o.pin, "pin", false, "give PostgreSQL, the relay, the destination and the producers processors of their own, where there are three or more")
	f.BoolVar(&o.list, "list", false, "list scenarios and systems")
	f.IntVar(&o.replay, "replay", 0, "`messages` of the scenario replica (default 500000, with -full 5000000)")
	f.IntVar(&o.backlog, "backlog", 0, "most `messages` of the scenario backlog-large (default 50000000)")
	f.StringVar(&o.dir, "dir", "results", "`directory` of the results")
	f.StringVar(&o.tables, "tables", "", "measure nothing: write the tables of this `page`, docs/performance.md, as the results have them")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("argument %q: there are only flags", f.Arg(0))
	}
	for name, n := range map[string]int{"replay": o.replay, "backlog": o.backlog} {
		if n < 0 {
			return o, fmt.Errorf("-%s %d: must be a number of messages, or 0 for the default", name, n)
		}
	}
	return o, nil
}

func main() {
	child.Run()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	switch {
	case err == nil && o.tables != "":
		err = writeTables(o.tables, o.dir)
	case err == nil:
		err = bench(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// writeTables writes the tables of a page as the results in dir have them.
func writeTables(page, dir string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("-tables: %w", err)
	}
	written, err := measured.Page(string(text), os.DirFS(dir))
	if err != nil {
		return fmt.Errorf("-tables %s: %w", page, err)
	}
	return os.WriteFile(page, []byte(written), 0o644)
}

// bench runs what was asked for.
func bench(ctx context.Context, o options, out io.Writer) (err error) {
	scenarios, own, peers := chosen(o)
	if o.list {
		return list(out, scenarios, append(own, peers...))
	}
	if len(scenarios) == 0 {
		return fmt.Errorf("-run %s: no scenario has such a name (-list shows them)", o.run.String())
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	dir, err := os.MkdirTemp("", "postrider-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.Dismiss(), os.RemoveAll(dir)) }()
	say("starting PostgreSQL, NATS and a receiver of webhooks")
	pins, pinned, err := pinning(o)
	if err != nil {
		return err
	}
	if pinned != "" {
		say("%s", pinned)
	}
	e, err := env.Start(ctx, dir, out, pins)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Stop()) }()
	b := &scenario.Bench{Env: e, Own: own, Peers: peers, Full: o.full, Replay: o.replay, Backlog: o.backlog, Log: say}
	summary, err := describe(ctx, e, o.full)
	if err != nil {
		return err
	}
	summary.Pinned = pinned
	if err := measure(ctx, b, scenarios, summary, o.dir, out); err != nil {
		return err
	}
	summary.Seconds = time.Since(began).Seconds()
	return finish(summary, o.dir, say)
}

// pinning is who gets which processors, if that is asked for, and what a table says about it.
func pinning(o options) (p pin.Processors, said string, err error) {
	if !o.pin {
		return p, "", nil
	}
	cpus, err := pin.Allowed()
	if err != nil {
		return p, "", fmt.Errorf("-pin: %w", err)
	}
	if p, err = pin.Split(cpus); err != nil {
		return p, fmt.Sprintf("Not pinned to processors: %v.", err), nil
	}
	return p, fmt.Sprintf("Pinned to processors: %v.", p), nil
}

// shortLimit bounds a run that is not full: what does not fit is left out.
const shortLimit = 9*time.Minute + 15*time.Second

var errTimeUp = errors.New("the time is up")

// measure runs scenarios, and prints and saves what comes out of each.
func measure(ctx context.Context, b *scenario.Bench, scenarios []scenario.Scenario, summary *report.Summary, dir string, out io.Writer) error {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if !b.Full {
		limited, cancel = context.WithTimeoutCause(ctx, shortLimit, errTimeUp)
	}
	defer cancel()
	for _, s := range scenarios {
		if limited.Err() != nil && ctx.Err() == nil {
			b.Log("%v: %s is left out", errTimeUp, s.Name)
			continue
		}
		b.Log("%s: %s", s.Name, s.Title)
		t, err := s.Run(limited, b)
		if errors.Is(err, errTimeUp) {
			t.Notes = append(t.Notes, "The time was up: this is not complete.")
		} else if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		t.Scenario, t.Title = s.Name, s.Title
		if summary.Pinned != "" {
			t.Notes = append(t.Notes, summary.Pinned)
		}
		if err := errors.Join(t.Write(out), t.Save(dir)); err != nil {
			return err
		}
		fmt.Fprintln(out)
		summary.Tables = append(summary.Tables, t)
	}
	return nil
}

// finish writes the summary and the chart, of this run and of what earlier ones left in dir.
func finish(summary *report.Summary, dir string, say func(string, ...any)) error {
	var order []string
	for _, s := range scenario.All() {
		order = append(order, s.Name)
	}
	if err := summary.Save(dir, order); err != nil {
		return err
	}
	say("the results are in %s", dir)
	return report.SaveChart(dir, summary.Tables)
}

// chosen returns what the flags pick.
func chosen(o options) (scenarios []scenario.Scenario, own, peers []system.System) {
	for _, s := range scenario.All() {
		if o.run.matches(s.Name) && (o.run.Regexp != nil || o.list || !s.Apart) {
			scenarios = append(scenarios, s)
		}
	}
	pick := func(from []system.System) (list []system.System) {
		for _, s := range from {
			if o.systems.matches(s.Name()) {
				list = append(list, s)
			}
		}
		return list
	}
	return scenarios, pick(all.Own()), pick(all.Peers())
}

func list(out io.Writer, scenarios []scenario.Scenario, systems []system.System) error {
	for _, s := range scenarios {
		apart := ""
		if s.Apart {
			apart = " (only with -run)"
		}
		if _, err := fmt.Fprintf(out, "%-16s %s%s\n", s.Name, s.Title, apart); err != nil {
			return err
		}
	}
	for _, s := range systems {
		if _, err := fmt.Fprintf(out, "  %s\n", s.Name()); err != nil {
			return err
		}
	}
	return nil
}

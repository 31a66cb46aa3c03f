package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

// Bench is what a scenario works with.
type Bench struct {
	Env   *env.Env
	Own   []system.System // Postrider in its ways, and the bare pipe
	Peers []system.System
	Full  bool // durations and sizes as they were asked for, else short ones
	// Replay is how many messages the scenario replica has. 0: as Full says.
	Replay int
	// Backlog is how many messages the scenario backlog-large has at most. 0: fifty million.
	Backlog int
	Log     func(format string, args ...any)

	stages int
	bridge bridge.Server // the one that runs, see Bridge; nil for none
}

// Kind is a kind of destination: one of these, or the name of one in package bridge, while that runs.
type Kind string

// Kinds of destinations.
const (
	NATS    Kind = ""
	Webhook Kind = "webhook"
	Nowhere Kind = "nowhere" // the system counts by itself, see system.Counter
)

// Pick returns full in a full run, else short.
func Pick[T any](b *Bench, short, full T) T {
	if b.Full {
		return full
	}
	return short
}

// Destination returns where messages of a kind go; of those of package bridge the address is left out.
func (b *Bench) Destination(kind Kind) system.Destination {
	switch kind {
	case NATS:
		return system.Destination{NATS: b.Env.NATS.URL}
	case Webhook:
		return system.Destination{Webhook: b.Env.Hook.URL + "/"}
	case Nowhere:
		return system.Destination{}
	}
	return system.Destination{Bridge: system.Bridge{Kind: string(kind)}} // each stage has an address
}

// Systems returns all systems that deliver to a kind of destination, Postrider first.
func (b *Bench) Systems(kind Kind) (list []system.System) {
	for _, s := range slices.Concat(b.Own, b.Peers) {
		if s.Supports(b.Destination(kind)) {
			list = append(list, s)
		}
	}
	return list
}

// Peer tells whether a system is somebody else's.
func (b *Bench) Peer(s system.System) bool {
	for _, p := range b.Peers {
		if p == s {
			return true
		}
	}
	return false
}

// Each measures systems one after the other and returns a row for each. Trouble of one goes into its row; only the end of ctx is an
// error.
func (b *Bench) Each(ctx context.Context, systems []system.System, measure func(context.Context, system.System) (report.Row, error)) ([]report.Row, error) {
	var rows []report.Row
	for _, s := range systems {
		row, err := b.One(ctx, s, measure)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// One is Each for one system.
func (b *Bench) One(ctx context.Context, s system.System, measure func(context.Context, system.System) (report.Row, error)) (report.Row, error) {
	row, err := lacks(ctx, s), error(nil)
	if row.Error == "" {
		row, err = measure(ctx, s)
	}
	if ctx.Err() != nil {
		return row, errors.Join(context.Cause(ctx), err)
	}
	row.System = s.Name()
	if err != nil {
		row.Error = err.Error()
	}
	b.Log("  %s", row.Line())
	return row, nil
}

// rounds is how often what is compared most closely is measured.
const rounds = 3

// Median is Each for systems that take turns: of the rounds of each, the row counts that has the rate in the middle.
func (b *Bench) Median(ctx context.Context, systems []system.System, measure func(context.Context, system.System) (report.Row, error)) ([]report.Row, error) {
	all, err := b.Rounds(ctx, systems, measure)
	if err != nil {
		return nil, err
	}
	return medianRows(all), nil
}

// Rounds is Each for systems that take turns: the rows of each system, by round.
func (b *Bench) Rounds(ctx context.Context, systems []system.System, measure func(context.Context, system.System) (report.Row, error)) ([][]report.Row, error) {
	all := make([][]report.Row, len(systems))
	for range rounds {
		round, err := b.Each(ctx, systems, measure)
		if err != nil {
			return nil, err
		}
		for i, row := range round {
			all[i] = append(all[i], row)
		}
	}
	return all, nil
}

func medianRows(all [][]report.Row) (rows []report.Row) {
	for _, list := range all {
		rows = append(rows, medianRow(list))
	}
	return rows
}

// shareOf is the median of the rounds' shares of one rate in another: what slows the machine down for a while slows both. 0: there is none.
func shareOf(rows, others []report.Row) float64 {
	var shares []float64
	for i := range min(len(rows), len(others)) {
		if r, o := rows[i], others[i]; r.Error == "" && o.Error == "" && o.Rate > 0 {
			shares = append(shares, r.Rate/o.Rate)
		}
	}
	return median(shares)
}

// medianRow prefers rows without trouble.
func medianRow(rows []report.Row) report.Row {
	sorted := slices.Clone(rows)
	slices.SortStableFunc(sorted, func(a, b report.Row) int {
		if (a.Error == "") != (b.Error == "") {
			return cmp.Compare(len(a.Error), len(b.Error))
		}
		return cmp.Compare(a.Rate, b.Rate)
	})
	good := 0
	for good < len(sorted) && sorted[good].Error == "" {
		good++
	}
	return sorted[max(good-1, 0)/2]
}

// lacks says in a row what a system lacks here.
func lacks(ctx context.Context, s system.System) (row report.Row) {
	if c, ok := s.(system.Checker); ok {
		if err := c.Check(ctx); err != nil {
			row.Error = fmt.Sprintf("not measured: %v", err)
		}
	}
	return row
}

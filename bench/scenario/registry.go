// Package scenario holds what is measured: a file for each scenario, which registers itself.
package scenario

import (
	"cmp"
	"context"
	"slices"

	"github.com/postrider/postrider/bench/report"
)

// Scenario is something to measure.
type Scenario struct {
	// Name is short, for -run and for the file of results: "drain-nats".
	Name string

	// Title stands over the table: what is done, and what is measured.
	Title string

	// Apart says that it runs only when its name is asked for: with all the others there is no time for it.
	Apart bool

	// Run measures. Trouble of one system goes into its row; an error ends the bench. When ctx ends, so does Run, with what it started.
	Run func(ctx context.Context, b *Bench) (report.Table, error)
}

type entry struct {
	order int
	Scenario
}

var entries []entry

// register adds a scenario. Call it from init; those of a lower order run first.
func register(order int, s Scenario) { entries = append(entries, entry{order, s}) }

// All returns the scenarios in the order in which they run.
func All() []Scenario {
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Name, b.Name)) })
	list := make([]Scenario, len(entries))
	for i, e := range entries {
		list[i] = e.Scenario
	}
	return list
}

// Package pin gives each part of a measurement processors of its own: PostgreSQL, the relay, the destination, and the bench, which produces
// and counts. What a part costs then shows in its rate, too, and no part is slowed down by another that has nothing to do with it.
//
// A process is pinned before its program begins, so that whatever asks how many processors there are, as Go's runtime does, gets the answer
// that fits. What it starts later inherits that.
package pin

import (
	"fmt"
	"slices"
	"strings"
)

// Part is what has processors of its own.
type Part int

// The parts, in the order in which processors are dealt.
const (
	Postgres Part = iota
	Relay
	Destination
	Bench
	parts
)

var names = [parts]string{"PostgreSQL", "relay", "destination", "producers"}

// fewest is the number of processors that it takes: the bench shares the destination's then.
const fewest = 3

// Processors are those of each part. The zero value pins nothing.
type Processors [parts][]int

// Split deals processors out: one to each part, and the rest to those that are measured, in turn.
func Split(allowed []int) (p Processors, err error) {
	if len(allowed) < fewest {
		return p, fmt.Errorf("PostgreSQL, the relay and the destination need a processor each, and there are %d", len(allowed))
	}
	for i, cpu := range allowed {
		part := Part(i)
		if part >= parts {
			part = (part - parts) % Bench
		}
		p[part] = append(p[part], cpu)
	}
	if len(p[Bench]) == 0 {
		p[Bench] = slices.Clone(p[Destination])
	}
	return p, nil
}

// String says who has which, such as "PostgreSQL 0, 4; relay 1".
func (p Processors) String() string {
	var list []string
	for part, cpus := range p {
		if len(cpus) > 0 {
			list = append(list, names[part]+" "+strings.Trim(strings.ReplaceAll(fmt.Sprint(cpus), " ", ", "), "[]"))
		}
	}
	return strings.Join(list, "; ")
}

// Start calls start, and what that starts itself, not in goroutines of its own, runs on the part's processors from its beginning.
func (p Processors) Start(part Part, start func() error) error {
	if len(p[part]) == 0 {
		return start()
	}
	return on(p[part], start)
}

// Move has processes that run already go on on the part's processors.
func (p Processors) Move(part Part, pids ...int) error {
	if len(p[part]) == 0 {
		return nil
	}
	for _, pid := range pids {
		if err := move(p[part], pid); err != nil {
			return fmt.Errorf("pin process %d to processors %v: %w", pid, p[part], err)
		}
	}
	return nil
}

package balance

import (
	"cmp"
	"slices"
	"strings"
)

// Cursor is what one relay at a time delivers.
type Cursor struct {
	Name    string
	Owner   string   // the relay that has it; empty, or one that does not live: nobody
	Lacking []string // the relays that cannot deliver it
}

// Plan returns who should have each cursor that should change hands or is nobody's, by name. What no relay can deliver is left out.
func Plan(relays []string, cursors []Cursor) map[string]string {
	p := newPlan(relays, cursors)
	for p.improve() {
	}
	to := make(map[string]string)
	for i, name := range p.relays {
		for _, b := range p.has[i] {
			if p.kinds[b.kind].home == i {
				continue
			}
			for _, cursor := range b.names {
				to[cursor] = name
			}
		}
	}
	return to
}

// kind is what some cursors have in common; nothing else about them matters to a plan.
type kind struct {
	home int   // who has them in the table: a relay's number, or nobody's
	able []int // who can deliver them
}

// batch is the cursors of one kind that a plan has in one place.
type batch struct {
	kind  int
	names []string // taken from the end
}

// plan is a spread that gets better with each call of improve. Relays are numbered in the order of their names. One more number stands
// for nobody, who gives everything away. What it finds is a flow of least cost: first for the spread, then for the hand-overs.
type plan struct {
	relays []string
	kinds  []kind
	has    [][]batch // by place
	load   []int     // by relay
	nobody int
	moved  int // cursors that have an owner, and are elsewhere
}

func newPlan(relays []string, cursors []Cursor) *plan {
	p := &plan{relays: slices.Sorted(slices.Values(relays)), load: make([]int, len(relays)), nobody: len(relays)}
	p.has = make([][]batch, len(relays)+1)
	number := make(map[string]int, len(relays))
	for i, name := range p.relays {
		number[name] = i
	}
	type key struct {
		home    int
		lacking string
	}
	known := make(map[key]int)
	for _, c := range slices.SortedFunc(slices.Values(cursors), func(a, b Cursor) int { return cmp.Compare(a.Name, b.Name) }) {
		lacking := slices.Sorted(slices.Values(c.Lacking))
		home, lives := number[c.Owner]
		if !lives || slices.Contains(lacking, c.Owner) {
			home = p.nobody
		}
		k := key{home, strings.Join(lacking, "\x00")}
		n, seen := known[k]
		if !seen {
			n = len(p.kinds)
			known[k] = n
			p.kinds = append(p.kinds, kind{home, p.without(lacking)})
		}
		if len(p.kinds[n].able) == 0 {
			continue
		}
		p.put(home, n, c.Name)
		if home != p.nobody {
			p.load[home]++
		}
	}
	return p
}

// without returns the numbers of all relays but some.
func (p *plan) without(lacking []string) (able []int) {
	for i, name := range p.relays {
		if _, lacks := slices.BinarySearch(lacking, name); !lacks {
			able = append(able, i)
		}
	}
	return able
}

func (p *plan) put(place, kind int, names ...string) {
	n, found := slices.BinarySearchFunc(p.has[place], kind, func(b batch, kind int) int { return cmp.Compare(b.kind, kind) })
	if !found {
		p.has[place] = slices.Insert(p.has[place], n, batch{kind: kind})
	}
	p.has[place][n].names = append(p.has[place][n].names, names...)
}

// take removes up to most cursors of a kind from a place.
func (p *plan) take(place, kind, most int) []string {
	n, _ := slices.BinarySearchFunc(p.has[place], kind, func(b batch, kind int) int { return cmp.Compare(b.kind, kind) })
	b := &p.has[place][n]
	rest := len(b.names) - most
	names := slices.Clone(b.names[rest:])
	if b.names = b.names[:rest]; rest == 0 {
		p.has[place] = slices.Delete(p.has[place], n, n+1)
	}
	return names
}

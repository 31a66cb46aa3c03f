package balance

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is relays that each decide by themselves, from what they have read, and carry it out while others do the same.
type world struct {
	table
	views    map[string]table
	leaving  map[string]string // by cursor: the relay that drains it, which only that one knows
	released int
}

func newWorld(tab table) *world {
	w := &world{table: tab.after(nil), views: make(map[string]table), leaving: make(map[string]string)}
	w.cursors = slices.Clone(w.cursors)
	for i, c := range w.cursors { // relays that are gone, and those that have let go what they lack
		if !slices.Contains(w.relays, c.Owner) || slices.Contains(c.Lacking, c.Owner) {
			w.cursors[i].Owner = ""
		}
	}
	return w
}

func (w *world) read(relay string) {
	view := table{w.relays, slices.Clone(w.cursors)}
	for i, c := range view.cursors {
		if w.leaving[c.Name] == relay {
			view.cursors[i].Owner = ""
		}
	}
	w.views[relay] = view
}

// act hands over what is this relay's and another's by its plan, and takes what is still nobody's.
func (w *world) act(relay string) (acted bool) {
	view := w.views[relay]
	to := Plan(view.relays, view.cursors)
	for i, seen := range view.cursors {
		target, moves := to[seen.Name]
		now := &w.cursors[i]
		switch {
		case !moves:
		case seen.Owner == relay && target != relay && now.Owner == relay && w.leaving[seen.Name] == "":
			w.leaving[seen.Name] = relay
			w.released++
			acted = true
		case seen.Owner == "" && target == relay && now.Owner == "":
			now.Owner = relay
			acted = true
		}
	}
	return acted
}

func (w *world) drained(cursor int) {
	delete(w.leaving, w.cursors[cursor].Name)
	w.cursors[cursor].Owner = ""
}

// drain ends all that a relay is letting go.
func (w *world) drain(relay string) (drained bool) {
	for i, c := range w.cursors {
		if w.leaving[c.Name] == relay {
			w.drained(i)
			drained = true
		}
	}
	return drained
}

// settle lets everybody act in turn until nothing changes any more. What is let go is released at once, or after the others have acted.
func (w *world) settle(t *rapid.T, atOnce bool) {
	again := true
	for rounds := 0; again; rounds++ {
		if rounds > 2*len(w.relays)+3 {
			t.Fatalf("no end after %d rounds and %d hand-overs: %v", rounds, w.released, w.table)
		}
		again = false
		for _, r := range w.relays {
			w.read(r)
			again = w.act(r) || again
			if atOnce {
				w.drain(r)
			}
		}
		for _, r := range w.relays {
			again = w.drain(r) || again
		}
	}
}

func (w *world) check(t *rapid.T) {
	w.valid(t)
	if err := w.balanced(); err != nil {
		t.Fatal(err)
	}
}

// Relays that decide one after the other, each from what there is by then, need no hand-over more than the plan of the start.
func TestDecisionsInTurn(t *testing.T) {
	often(t, func(t *rapid.T) {
		w := newWorld(drawTable(t, 5, 12))
		start := table{w.relays, slices.Clone(w.cursors)}
		least := cost(start, start.after(Plan(start.relays, start.cursors)))
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			r := rapid.SampledFrom(w.relays).Draw(t, "relay")
			w.read(r)
			w.act(r)
			w.drain(r)
		}
		w.settle(t, true)
		w.check(t)
		if w.released != least {
			t.Fatalf("%d hand-overs instead of %d, from %v to %v", w.released, least, start, w.table)
		}
	})
}

// Relays that read, decide, drain and take in any order, from views that may be old, end in the same, with few hand-overs more.
func TestDecisionsAtOnce(t *testing.T) {
	often(t, func(t *rapid.T) {
		w := newWorld(drawTable(t, 5, 12))
		start := table{w.relays, slices.Clone(w.cursors)}
		least := cost(start, start.after(Plan(start.relays, start.cursors)))
		for _, r := range w.relays {
			w.read(r)
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			r := rapid.SampledFrom(w.relays).Draw(t, "relay")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				w.read(r)
			case 1:
				w.act(r)
				w.read(r) // nobody acts twice on one view
			case 2:
				for i, c := range w.cursors {
					if w.leaving[c.Name] == r {
						w.drained(i)
						break
					}
				}
			}
		}
		w.settle(t, false)
		w.check(t)
		if w.released > least+len(w.relays) {
			t.Fatalf("%d hand-overs, %d would do, from %v to %v", w.released, least, start, w.table)
		}
	})
}

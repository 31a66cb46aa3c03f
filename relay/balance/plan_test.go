package balance

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// often checks a property so many times that what is rare happens.
func often(t *testing.T, property func(*rapid.T)) {
	for range 20 {
		rapid.Check(t, property)
	}
}

// table is what all relays see.
type table struct {
	relays  []string
	cursors []Cursor
}

// drawTable makes any table: owners that lack what they have, owners that do not live, cursors that nobody can deliver.
func drawTable(t *rapid.T, mostRelays, mostCursors int) table {
	var tab table
	for i := range rapid.IntRange(1, mostRelays).Draw(t, "relays") {
		tab.relays = append(tab.relays, fmt.Sprintf("r%d", i))
	}
	owners := append(slices.Clone(tab.relays), "", "gone")
	lack := rapid.Float64Range(0, 1).Draw(t, "share that is lacking")
	for i := range rapid.IntRange(0, mostCursors).Draw(t, "cursors") {
		c := Cursor{Name: fmt.Sprintf("s%02d", i), Owner: rapid.SampledFrom(owners).Draw(t, "owner")}
		for _, r := range tab.relays {
			if rapid.Float64Range(0, 1).Draw(t, "lacks") < lack {
				c.Lacking = append(c.Lacking, r)
			}
		}
		tab.cursors = append(tab.cursors, c)
	}
	return tab
}

// after returns the table that a plan ends in. What nobody can deliver is nobody's then.
func (tab table) after(to map[string]string) table {
	tab.cursors = slices.Clone(tab.cursors)
	for i, c := range tab.cursors {
		if len(c.Lacking) == len(tab.relays) {
			tab.cursors[i].Owner = ""
		}
		if owner, moves := to[c.Name]; moves {
			tab.cursors[i].Owner = owner
		}
	}
	return tab
}

// squares is what a balanced spread has least of, and loads what each relay has.
func (tab table) squares() (sum int) {
	loads := make(map[string]int)
	for _, c := range tab.cursors {
		loads[c.Owner]++
	}
	for _, r := range tab.relays {
		sum += loads[r] * loads[r]
	}
	return sum
}

// cost is how many cursors have changed hands.
func cost(from, to table) (n int) {
	for i, c := range from.cursors {
		if slices.Contains(from.relays, c.Owner) && !slices.Contains(c.Lacking, c.Owner) && to.cursors[i].Owner != c.Owner {
			n++
		}
	}
	return n
}

// valid checks that everybody has only what it can deliver, and that nothing is left that somebody could.
func (tab table) valid(t *rapid.T) {
	for _, c := range tab.cursors {
		able := slices.DeleteFunc(slices.Clone(tab.relays), func(r string) bool { return slices.Contains(c.Lacking, r) })
		if len(able) == 0 && c.Owner != "" || len(able) > 0 && !slices.Contains(able, c.Owner) {
			t.Fatalf("%s is with %q; %v can deliver it", c.Name, c.Owner, able)
		}
	}
}

// Of all spreads that there are, none is better, and none as good has fewer hand-overs.
func TestPlanIsTheBest(t *testing.T) {
	often(t, func(t *rapid.T) {
		tab := drawTable(t, 5, 7)
		got := tab.after(Plan(tab.relays, tab.cursors))
		got.valid(t)
		tab = tab.after(nil)
		var try func(n int, at table)
		try = func(n int, at table) {
			if n == len(at.cursors) {
				if better, as := at.squares()-got.squares(), cost(tab, at)-cost(tab, got); better < 0 || better == 0 && as < 0 {
					t.Fatalf("%v became %v with %d hand-overs; %v would be better with %d", tab, got, cost(tab, got), at, cost(tab, at))
				}
				return
			}
			tried := false
			for _, r := range at.relays {
				if !slices.Contains(at.cursors[n].Lacking, r) {
					tried = true
					next := table{at.relays, slices.Clone(at.cursors)}
					next.cursors[n].Owner = r
					try(n+1, next)
				}
			}
			if !tried {
				try(n+1, at)
			}
		}
		try(0, tab)
	})
}

// What has been moved goes back where that is as good: r1 keeps s00 when it has got one of r0's instead.
func TestPlanTakesBackWhatNeedNotMove(t *testing.T) {
	to := Plan([]string{"r0", "r1", "r2", "r3"}, []Cursor{
		{Name: "s00", Owner: "r1", Lacking: []string{"r2"}}, {Name: "s01", Owner: "r0"}, {Name: "s02", Lacking: []string{"r0", "r2"}},
		{Name: "s03", Lacking: []string{"r0", "r2"}}, {Name: "s04", Owner: "r0"},
	})
	if who, moves := to["s00"]; moves || len(to) != 3 {
		t.Errorf("s00 goes to %q in %v", who, to)
	}
}

// balanced looks for a chain over which a cursor could go to somebody who has at least two fewer, in the plainest way.
func (tab table) balanced() error {
	loads := make(map[string]int)
	direct := make(map[string]map[string]bool) // by owner: to whom something can go
	for _, r := range tab.relays {
		direct[r] = make(map[string]bool)
	}
	for _, c := range tab.cursors {
		loads[c.Owner]++
		for _, r := range tab.relays {
			if c.Owner != "" && !slices.Contains(c.Lacking, r) {
				direct[c.Owner][r] = true
			}
		}
	}
	for _, from := range tab.relays {
		reached, next := map[string]bool{from: true}, []string{from}
		for ; len(next) > 0; next = next[1:] {
			if loads[from] >= loads[next[0]]+2 {
				return fmt.Errorf("%s has %d, %s has %d, and a chain leads there", from, loads[from], next[0], loads[next[0]])
			}
			for r := range direct[next[0]] {
				if !reached[r] {
					reached[r], next = true, append(next, r)
				}
			}
		}
	}
	return nil
}

func TestPlanIsBalanced(t *testing.T) {
	often(t, func(t *rapid.T) {
		tab := drawTable(t, 8, 60)
		got := tab.after(Plan(tab.relays, tab.cursors))
		got.valid(t)
		if err := got.balanced(); err != nil {
			t.Fatal(err)
		}
		if again := Plan(got.relays, got.cursors); len(again) > 0 {
			t.Fatalf("what is balanced moves: %v", again)
		}
		shuffled := rapid.Permutation(tab.cursors).Draw(t, "another order")
		if other := Plan(rapid.Permutation(tab.relays).Draw(t, "relays in another order"), shuffled); !maps.Equal(other, Plan(tab.relays, tab.cursors)) {
			t.Fatalf("%v in one order, %v in another", Plan(tab.relays, tab.cursors), other)
		}
	})
}

// The sizes that there are: all relays make a plan about once a second.
func TestPlanOfMany(t *testing.T) {
	var cursors []Cursor
	var relays []string
	for i := range 100 {
		relays = append(relays, fmt.Sprintf("r%03d", i))
	}
	for i := range 10_000 {
		c := Cursor{Name: fmt.Sprintf("s%05d", i), Owner: relays[i%99]}
		if i%3 == 0 {
			c.Lacking = relays[:10]
		}
		cursors = append(cursors, c)
	}
	began := time.Now()
	to := Plan(relays, cursors)
	took := time.Since(began)
	tab := table{relays, cursors}.after(to)
	if err := tab.balanced(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d cursors change hands among %d relays, computed in %s", len(to), len(cursors), len(relays), took)
}

package snapshot

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var ids = rapid.SliceOfN(rapid.Int64Range(1, 60), 0, 40)

func setOf(ids []int64) map[int64]bool {
	set := make(map[int64]bool)
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// checkSet compares with the model and looks for ranges that touch, overlap, are empty or out of order.
func checkSet(t *rapid.T, s idSet, want map[int64]bool) {
	t.Helper()
	for id := int64(-1); id < 65; id++ {
		if s.has(id) != want[id] {
			t.Errorf("%s has %d: %t", s, id, s.has(id))
		}
	}
	for i, r := range s {
		if r.lo >= r.hi || i > 0 && s[i-1].hi >= r.lo {
			t.Errorf("%s is not in canonical form", s)
		}
	}
}

func TestIDSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := ids.Draw(t, "a")
		inA := setOf(a)
		x := NewIDSet(slices.Clone(a))
		checkSet(t, x, inA)
		before := x.String()

		id := rapid.Int64Range(0, 62).Draw(t, "id")
		above := maps.Clone(inA)
		maps.DeleteFunc(above, func(i int64, _ bool) bool { return i <= id })
		rest := x.above(id)
		checkSet(t, rest, above)
		if x.String() != before {
			t.Errorf("%s has become %s", before, x)
		}
		back, err := ParseIDSet(before)
		if err != nil || !slices.Equal(back, x) {
			t.Errorf("%s was read as %s, %v", before, back, err)
		}
	})
}
func FuzzParseIDSet(f *testing.F) {
	for _, text := range []string{"{}", "{[1,4),[7,8)}", "{[1,4)[7,8)}", "{[1,4),}", "{(,)}", "{[1,)}", "{[4,1)}", "{", "{[", "{[1,2),[2,3)}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseIDSet(text)
		if err != nil {
			return
		}
		back, err := ParseIDSet(s.String())
		if err != nil || !slices.Equal(back, s) {
			t.Errorf("%q was read as %s, and that as %s, %v", text, s, back, err)
		}
		if len(s) > 0 && (!s.has(s[0].lo) || s.has(s[len(s)-1].hi)) {
			t.Errorf("%q: contradicts itself", text)
		}
	})
}

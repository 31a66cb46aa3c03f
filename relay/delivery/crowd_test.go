package delivery

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The count is that of its definition, whatever comes and goes.
func TestCrowd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "max_parked")
		oneKey := rapid.Bool().Draw(t, "one key")
		c := newCrowd(limit, oneKey)
		var there []string
		for range rapid.IntRange(0, 200).Draw(t, "events") {
			if len(there) > 0 && rapid.IntRange(0, 2).Draw(t, "event") == 0 {
				i := rapid.IntRange(0, len(there)-1).Draw(t, "which")
				c.add(there[i], -1)
				there = append(there[:i], there[i+1:]...)
			} else {
				key := rapid.SampledFrom([]string{"", "a", "a", "a", "b"}).Draw(t, "key")
				c.add(key, 1)
				there = append(there, key)
			}
			of := map[string]int{}
			for _, key := range there {
				of[key]++
			}
			share := max(limit/10, 1)
			if oneKey {
				share = limit
			}
			counted := of[""] + min(of["a"], share) + min(of["b"], share)
			if c.counted != counted || c.full() != (counted >= limit || len(there) >= 2*limit) || c.bears("a") != (of["a"] < limit) {
				t.Fatalf("%v at max_parked %d: %+v", of, limit, c)
			}
			if len(c.byKey) > len(of) {
				t.Fatalf("%v: keys are left over: %v", of, c.byKey)
			}
		}
	})
}

// One hot key leaves nine tenths of the places to others, and is named.
func TestCrowdOfOneKey(t *testing.T) {
	c := newCrowd(1000, false)
	for c.bears("hot") {
		c.add("hot", 1)
	}
	if c.full() || c.all != 1000 {
		t.Errorf("one key's messages stop all: %+v", c)
	}
	if key, n := c.hot(); key != "hot" || n != 1000 {
		t.Errorf("hot is %q with %d", key, n)
	}
	others := 0
	for !c.full() {
		c.add(fmt.Sprint(others), 1)
		others++
	}
	if others != 900 {
		t.Errorf("%d others have found a place, want 900", others)
	}
}

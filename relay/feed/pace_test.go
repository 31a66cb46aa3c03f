package feed

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for name, test := range map[string]struct {
		windows [][3]int // transactions of a second: committed, brought by the stream, late
		want    bool
	}{
		"late twice in a row":         {[][3]int{{2000, 2000, 500}, {2000, 2000, 500}}, true},
		"late twice of three times":   {[][3]int{{2000, 2000, 500}, {2000, 2000, 0}, {2000, 2000, 500}}, true},
		"late once":                   {[][3]int{{2000, 2000, 2000}, {2000, 2000, 0}}, false},
		"late now and then":           {[][3]int{{2000, 2000, 2000}, {2000, 2000, 0}, {2000, 2000, 0}, {2000, 2000, 500}}, false},
		"a few transactions are late": {[][3]int{{2000, 2000, 300}, {2000, 2000, 300}, {2000, 2000, 300}}, false},
		"late with little to do":      {[][3]int{{1000, 1000, 1000}, {1000, 1000, 1000}, {1000, 1000, 1000}}, false},
		"nothing comes":               {[][3]int{{1500, 0, 0}, {1500, 0, 0}}, true},
		"half of it comes":            {[][3]int{{1500, 750, 0}, {1500, 750, 0}}, false},
		"nothing to do":               {[][3]int{{0, 0, 0}, {0, 0, 0}}, false},
		"just late":                   {[][3]int{{1500, 1500, 301}, {1500, 1500, 300}, {1500, 1500, 301}}, true},
	} {
		var p pace
		got := false
		for _, w := range test.windows {
			got = p.outrun(time.Second, w[0], w[1], w[2], BusyRate)
		}
		if got != test.want {
			t.Errorf("%s: outrun %t, want %t", name, got, test.want)
		}
	}
}

func TestCooldown(t *testing.T) {
	var cooldown time.Duration
	for i, step := range []struct{ lasted, want time.Duration }{
		{time.Second, cooldownMin}, {time.Second, 2 * cooldownMin}, {cooldownMax, 4 * cooldownMin}, {0, 8 * cooldownMin}, {0, cooldownMax}, {0, cooldownMax}, {cooldownMax + 1, cooldownMin}, {0, 2 * cooldownMin},
	} {
		if cooldown = nextCooldown(cooldown, step.lasted); cooldown != step.want {
			t.Errorf("step %d: %v, want %v", i, cooldown, step.want)
		}
	}
}

// Ticks that read the table rest the longer, the more they find and the longer that takes, within bounds.
func TestRest(t *testing.T) {
	c := &core{bounds: bounds{pollMin: time.Millisecond, pollMax: 100 * time.Millisecond}}
	for _, step := range []struct {
		found      int
		took, want time.Duration
	}{
		{1, 2 * time.Millisecond, time.Millisecond},
		{restRows, 2 * time.Millisecond, 2 * time.Millisecond},
		{3 * restRows, 2 * time.Millisecond, 6 * time.Millisecond},
		{100 * restRows, time.Millisecond, restMost * time.Millisecond},
		{100 * restRows, time.Second, restMax},
		{0, time.Second, 30 * time.Millisecond},
		{0, time.Second, 45 * time.Millisecond},
		{1, time.Microsecond, time.Millisecond},
		{0, time.Microsecond, 1500 * time.Microsecond},
	} {
		if c.adaptDelay(step.found, step.took); c.delay != step.want {
			t.Errorf("after a tick that took %v and found %d rows: %v, want %v", step.took, step.found, c.delay, step.want)
		}
	}
}

// A lull is a while in which all looks have found few transactions.
func TestLull(t *testing.T) {
	now := time.Unix(0, 0)
	l := lull{busy: 1000, at: now}
	var n int64
	for i, step := range []struct {
		more int64
		want bool
	}{{499, false}, {499, false}, {499, false}, {500, false}, {0, false}, {0, false}, {499, false}, {499, true}, {500, false}} {
		now, n = now.Add(lullEvery), n+step.more
		if got := l.look(now, n); got != step.want {
			t.Errorf("look %d: a lull: %t, want %t", i, got, step.want)
		}
	}
}

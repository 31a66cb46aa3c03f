package relay

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
			got = p.outrun(time.Second, w[0], w[1], w[2], busyRate)
		}
		if got != test.want {
			t.Errorf("%s: outrun %t, want %t", name, got, test.want)
		}
	}
}

func TestHold(t *testing.T) {
	var hold time.Duration
	for i, step := range []struct{ lasted, want time.Duration }{
		{time.Second, holdMin}, {time.Second, 2 * holdMin}, {holdMax, 4 * holdMin}, {0, 8 * holdMin}, {0, holdMax}, {0, holdMax}, {holdMax + 1, holdMin}, {0, 2 * holdMin},
	} {
		if hold = nextHold(hold, step.lasted); hold != step.want {
			t.Errorf("step %d: %v, want %v", i, hold, step.want)
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

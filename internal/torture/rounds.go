package torture

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// roundLength is about how long the producers of a round write.
const roundLength = time.Minute

// Rounds runs rounds one after the other until their durations add up to c.Duration, each with a seed made of c.Seed, and with
// the next way to follow. It reports whether every promise was kept, and stops at the first round in which one was not.
func Rounds(ctx context.Context, c Config) (ok bool, err error) {
	if c.Binary == "" {
		dir, err := os.MkdirTemp("", "postrider-torture-bin-")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		if c.Binary, err = Build(ctx, dir); err != nil {
			return false, err
		}
	}
	n := max(1, int((c.Duration+roundLength/2)/roundLength))
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	var sum total
	for i := range n {
		one := c
		one.Duration = c.Duration / time.Duration(n)
		if i > 0 {
			one.Seed = rng.Uint64()
		}
		if c.Follow == "" {
			one.Follow = Ways[(i+int(c.Seed%uint64(len(Ways))))%len(Ways)]
		}
		c.say("round %d of %d", i+1, n)
		r, err := Run(ctx, one)
		if err != nil {
			return false, fmt.Errorf("round %d: %w", i+1, err)
		}
		if err := r.Write(c.out()); err != nil {
			return false, err
		}
		sum.add(r)
		if len(r.Violations) > 0 {
			c.say("SEED=%d DURATION=%v FOLLOW=%s repeats this round alone; SEED=%d DURATION=%v all", one.Seed, one.Duration, one.Follow, c.Seed, c.Duration)
			return false, nil
		}
	}
	c.say("seed %d: %s", c.Seed, sum)
	return true, nil
}

func (c *Config) out() io.Writer {
	if c.Log == nil {
		return io.Discard
	}
	return c.Log
}

// total adds rounds up.
type total struct {
	rounds, faults, messages, deliveries, repeated int
	longest                                        time.Duration
	destinations                                   map[string]int // rounds with each of those that not all have
	leftOut                                        map[string]bool
}

func (t *total) add(r *Report) {
	t.rounds++
	t.messages += r.Messages
	if t.destinations == nil {
		t.destinations, t.leftOut = make(map[string]int), make(map[string]bool)
	}
	for _, name := range r.Destinations {
		t.destinations[name]++
	}
	for _, what := range r.LeftOut {
		t.leftOut[what] = true
	}
	for _, f := range r.Faults {
		t.faults += f.Times
	}
	for _, d := range r.Deliveries {
		t.deliveries += d.Expected
		t.repeated += d.Repeated
		t.longest = max(t.longest, d.Longest)
	}
}

// String sums up in one line.
func (t total) String() string {
	return fmt.Sprintf("%d rounds, %d faults injected, %d messages, %d deliveries, %d of them repeated; longest stall %v%s. Every promise was kept.%s",
		t.rounds, t.faults, t.messages, t.deliveries, t.repeated, t.longest.Round(time.Millisecond), t.which(), sayLeftOut(" ", slices.Sorted(maps.Keys(t.leftOut))))
}

// which says how many rounds had each of the destinations that not all have.
func (t total) which() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.destinations)) {
		fmt.Fprintf(&b, "; with %s %d", name, t.destinations[name])
	}
	return b.String()
}

// WriteFaults lists all faults.
func WriteFaults(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range faults() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Name, f.Hits, f.About)
	}
	_ = t.Flush() // out is the terminal
}

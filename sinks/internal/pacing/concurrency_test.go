package pacing

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// crowd plays a destination: so many clients that always have something to send.
type crowd struct {
	w       concurrency
	now     time.Time
	clients int
}

// round sends as many requests as may be under way and takes in their answers. It returns how many went.
func (c *crowd) round(takes func(atOnce int) time.Duration, bad func(i int) bool) int {
	n := min(c.w.limit(), c.clients)
	began, full := c.now, n >= c.w.limit() // who has an answer sends the next at once
	c.now = began.Add(takes(n))
	for i := range n {
		if bad != nil && bad(i) {
			c.w.bad(began, c.now)
		} else {
			c.w.good(began, c.now, full)
		}
	}
	return n
}

func steady(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func newCrowd(lanes int) *crowd {
	return &crowd{w: newConcurrency(lanes), now: time.Unix(1_800_000_000, 0), clients: lanes}
}

func TestConcurrencyDoubles(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 900 * time.Millisecond} {
		c := newCrowd(64)
		for i, want := range []int{4, 8, 16, 32, 64, 64} {
			if n := c.round(steady(took), nil); n != want {
				t.Errorf("answers within %v: %d at once in round %d, want %d", took, n, i, want)
			}
		}
	}
}

// A round with trouble, however much of it, halves once; from then on it grows by one with each round.
func TestConcurrencyHalves(t *testing.T) {
	c := newCrowd(64)
	for range 5 {
		c.round(steady(time.Millisecond), nil)
	}
	c.round(steady(time.Millisecond), func(i int) bool { return i%2 == 0 })
	for want := 32; want < 40; want++ {
		// The divisor grows a bit in the course of a round.
		if n := c.round(steady(time.Millisecond), nil); n < want-1 || n > want {
			t.Errorf("%d at once, want %d", n, want)
		}
	}
	for range 100 {
		c.round(steady(time.Millisecond), func(int) bool { return true })
	}
	if n := c.w.limit(); n != 1 {
		t.Errorf("%d at once when all fails, want 1", n)
	}
	rounds := 0
	for ; c.w.limit() < 64; rounds++ {
		c.round(steady(time.Millisecond), nil)
	}
	if rounds > 80 {
		t.Errorf("%d rounds from 1 to 64", rounds)
	}
}

// A destination that becomes slow with many requests at once is left at what it bears.
func TestConcurrencyFindsWhatADestinationBears(t *testing.T) {
	bears := func(n int) time.Duration {
		return 100*time.Millisecond + time.Duration(max(0, n-10))*300*time.Millisecond
	}
	c := newCrowd(64)
	sum, most := 0, 0
	for i := range 400 {
		if n := c.round(bears, nil); i >= 100 {
			sum, most = sum+n, max(most, n)
		}
	}
	if mean := float64(sum) / 300; mean < 7 || mean > 14 || most > 20 {
		t.Errorf("%.1f at once on average, at most %d, of a destination that bears 10", mean, most)
	}
}

// What always takes long takes no longer because of us.
func TestConcurrencyOfASlowDestination(t *testing.T) {
	c := newCrowd(16)
	for range 10 {
		c.round(steady(5*time.Second), nil)
	}
	if n := c.w.limit(); n != 16 {
		t.Errorf("%d at once of a destination that always takes 5s, want 16", n)
	}
	for range 10 {
		c.round(steady(12*time.Second), nil)
	}
	if n := c.w.limit(); n > 8 {
		t.Errorf("%d at once after it has become much slower", n)
	}
}

// Little traffic says nothing about more.
func TestConcurrencyGrowsOnlyWhenItIsUsed(t *testing.T) {
	c := newCrowd(64)
	c.clients = 3
	for range 100 {
		c.round(steady(time.Millisecond), nil)
	}
	if n := c.w.limit(); n != First {
		t.Errorf("%d at once, want %d as in the beginning", n, First)
	}
}

// Concurrency against what its comment says, whatever happens.
func TestConcurrencyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 200).Draw(t, "lanes")
		w := newConcurrency(most)
		now := time.Unix(1_800_000_000, 0)
		slowest := time.Duration(0) // since the last halving
		for range rapid.IntRange(1, 300).Draw(t, "answers") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "pause")) * time.Millisecond)
			took := time.Duration(rapid.IntRange(0, 5000).Draw(t, "took")) * time.Millisecond
			began, was := now.Add(-took), w
			trouble, full := rapid.IntRange(0, 9).Draw(t, "trouble") == 0, rapid.Bool().Draw(t, "full")
			if trouble {
				w.bad(began, now)
			} else {
				w.good(began, now, full)
			}
			if began.Before(was.halved) {
				if w != was {
					t.Fatalf("a request from before the last halving has changed %+v to %+v", was, w)
				}
				continue
			}
			slowest = max(slowest, took)
			switch {
			case w.halved != was.halved || w.size < was.size || trouble:
				if want := math.Max(was.size/2, 1); w.size != want || w.halved != now {
					t.Fatalf("trouble has changed %+v to %+v, want a size of %v", was, w, want)
				}
				if !trouble && slowest <= fastAnswer {
					t.Fatalf("answers within %v count as slow", slowest)
				}
				slowest = 0
			case w.size > was.size:
				if !full || w.size > was.size+1 || w.size > float64(most) || took > max(fastAnswer, slowFactor*w.usual) {
					t.Fatalf("an answer within %v (full: %v) has changed %+v to %+v", took, full, was, w)
				}
			case full && took <= fastAnswer && w.size < float64(most):
				t.Fatalf("a good answer has left %+v at %+v", was, w)
			}
			if n := w.limit(); n < 1 || n > most {
				t.Fatalf("%d at once, of 1 to %d", n, most)
			}
		}
	})
}

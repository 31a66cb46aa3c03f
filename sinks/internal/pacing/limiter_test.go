package pacing

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Many wait at once, and the rate is kept to the token.
func TestRate(t *testing.T) {
	for _, c := range []struct {
		rate    float64
		burst   int
		want    time.Duration // until 30 have begun
		atFirst int
	}{
		{10, 0, 2900 * time.Millisecond, 1},
		{10, 5, 2500 * time.Millisecond, 5},
		{100, 0, 200 * time.Millisecond, 10},
		{0.5, 0, 58 * time.Second, 1},
		{0, 0, 0, 30},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(Config{Rate: c.rate, Burst: c.burst})
			up := &upPeriod{ended: make(chan struct{})}
			start := time.Now()
			var mu sync.Mutex
			var wg sync.WaitGroup
			atOnce := 0
			for range 30 {
				wg.Go(func() {
					if err := l.wait(t.Context(), up); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if time.Since(start) == 0 {
						atOnce++
					}
				})
			}
			wg.Wait()
			if took := time.Since(start); (took-c.want).Abs() > time.Millisecond || atOnce != c.atFirst {
				t.Errorf("rate %v, burst %d: 30 began within %v, %d of them at once, want %v and %d", c.rate, c.burst, took, atOnce, c.want, c.atFirst)
			}
		})
	}
}

// Who cannot wait long enough learns it at once, and its token is for others.
func TestRateAgainstTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Config{Rate: 1})
		up := &upPeriod{ended: make(chan struct{})}
		start := time.Now()
		wait := func(ctx context.Context) error { return l.wait(ctx, up) }
		if err := wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := wait(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("after %v: %v, want an error at once", time.Since(start), err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		if err := wait(cancelled); !errors.Is(err, context.Canceled) || time.Since(start) != 300*time.Millisecond {
			t.Errorf("after %v: %v, want it when it is cancelled", time.Since(start), err)
		}
		if err := wait(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("after %v: %v, want the next token after a second", time.Since(start), err)
		}
		down := errors.New("down")
		time.AfterFunc(300*time.Millisecond, func() { up.err = down; close(up.ended) })
		if err := wait(t.Context()); err != down || time.Since(start) != 1300*time.Millisecond {
			t.Errorf("after %v: %v, want the outage's error when it begins", time.Since(start), err)
		}
	})
}

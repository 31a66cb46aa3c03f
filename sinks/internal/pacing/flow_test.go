package pacing

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var adaptive = Config{Adaptive: true, Lanes: 64}

// rush makes n goroutines enter, and returns how many are in, and a channel of what the others got.
func rush(ctx context.Context, f *Flow, n int) (in *atomic.Int32, refused chan error) {
	in, refused = new(atomic.Int32), make(chan error, n)
	for range n {
		go func() {
			if err := f.Enter(ctx); err != nil {
				refused <- err
				return
			}
			in.Add(1)
		}()
	}
	synctest.Wait()
	return in, refused
}

func TestFlowLetsInAsManyAsConcurrencyAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(adaptive)
		in, _ := rush(t.Context(), f, 100)
		for want := First; want <= 30; want++ {
			if n := int(in.Load()); n != want {
				t.Fatalf("%d are in, want %d", n, want)
			}
			if want == 30 {
				break
			}
			// A good answer makes room for two: its own place, and the growth of the concurrency.
			began := time.Now()
			time.Sleep(time.Millisecond)
			f.Leave(t.Context(), Result{Began: began, Ended: time.Now()})
			in.Add(-1)
			synctest.Wait()
		}
	})
}

func TestFixedConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Lanes: 8})
		if in, _ := rush(t.Context(), f, 8); in.Load() != 8 {
			t.Errorf("%d are in, want all 8", in.Load())
		}
		f.Leave(t.Context(), Result{Began: time.Now(), Ended: time.Now(), Overloaded: true})
		if in, _ := rush(t.Context(), f, 1); in.Load() != 1 {
			t.Error("one more does not get in")
		}
	})
}

// Trouble halves the concurrency; what is an answer to a message does not.
func TestTroubleHalves(t *testing.T) {
	for overloaded, want := range map[bool]int{true: 2, false: 5} {
		f := New(adaptive)
		for range First {
			if err := f.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.Leave(t.Context(), Result{Began: time.Now(), Ended: time.Now(), Overloaded: overloaded})
		if n := f.concurrency.limit(); n != want {
			t.Errorf("%d at once after an answer that means overload: %t, want %d", n, overloaded, want)
		}
	}
}

// Whoever waits for a place when the destination turns out to be down is sent away without asking it, later ones are not.
func TestFlowDismisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(adaptive)
		in, refused := rush(t.Context(), f, 20)
		down := errors.New("down")
		f.Leave(t.Context(), Result{Began: time.Now(), Ended: time.Now(), Overloaded: true, Down: down})
		synctest.Wait()
		if in.Load() != First || len(refused) != 16 {
			t.Fatalf("%d got in and %d were sent away, want %d and 16", in.Load(), len(refused), First)
		}
		for range 16 {
			if err := <-refused; err != down {
				t.Errorf("sent away with %v", err)
			}
		}
		for range First - 1 {
			f.Leave(t.Context(), Result{Began: time.Now(), Ended: time.Now(), Overloaded: true, Down: down})
		}
		if in, _ := rush(t.Context(), f, 1); in.Load() != 1 || f.busy != 1 {
			t.Errorf("a probe does not get in, %d places are taken", f.busy)
		}
	})
}

func TestFlowIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(adaptive)
		ctx, cancel := context.WithCancel(t.Context())
		in, refused := rush(ctx, f, 10)
		cancel()
		synctest.Wait()
		if len(refused) != 6 || !errors.Is(<-refused, context.Canceled) {
			t.Errorf("%d of those that wait were cancelled, want 6", len(refused))
		}
		for range in.Load() {
			f.Leave(ctx, Result{Began: time.Now(), Ended: time.Now(), Overloaded: true})
		}
		if f.busy != 0 || len(f.waiting) != 0 || f.concurrency.limit() != First {
			t.Errorf("%d places are taken, %d wait, the concurrency has %d: giving up is no trouble", f.busy, len(f.waiting), f.concurrency.limit())
		}
	})
}

// All at once, under the race detector: no place is lost, and the concurrency is never exceeded.
func TestFlowLosesNoPlace(t *testing.T) {
	f := New(Config{Adaptive: true, Lanes: 8, Rate: 20000, Burst: 5})
	var busy, most atomic.Int32
	var wg sync.WaitGroup
	down := errors.New("down")
	for g := range 32 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%5 == 0 {
					time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
				}
				if f.Enter(ctx) == nil {
					n := busy.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					busy.Add(-1)
					result := Result{Began: time.Now(), Ended: time.Now()}
					if (g*i)%41 == 0 {
						result.Overloaded, result.Down = true, down
					}
					f.Leave(ctx, result)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if f.busy != 0 || len(f.waiting) != 0 {
		t.Errorf("%d places are taken and %d wait at the end", f.busy, len(f.waiting))
	}
	if most.Load() > 8 {
		t.Errorf("%d at once, at most 8 may be", most.Load())
	}
}

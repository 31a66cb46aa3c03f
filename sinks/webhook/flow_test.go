package webhook

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// rush makes n goroutines enter, and returns how many are in, and a channel of what the others got.
func rush(ctx context.Context, f *flow, n int) (in *atomic.Int32, refused chan error) {
	in, refused = new(atomic.Int32), make(chan error, n)
	for range n {
		go func() {
			if err := f.enter(ctx); err != nil {
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
		f := newFlow(&Options{Concurrency: ConcurrencyAdaptive}, 64)
		in, _ := rush(t.Context(), f, 100)
		for want := firstConcurrency; want <= 30; want++ {
			if n := int(in.Load()); n != want {
				t.Fatalf("%d are in, want %d", n, want)
			}
			if want == 30 {
				break
			}
			// A good answer makes room for two: its own place, and the growth of the concurrency.
			began := time.Now()
			time.Sleep(time.Millisecond)
			f.leave(t.Context(), began, time.Now(), 204, nil)
			in.Add(-1)
			synctest.Wait()
		}
	})
}

func TestFixedConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(&Options{Concurrency: ConcurrencyFixed}, 8)
		if in, _ := rush(t.Context(), f, 8); in.Load() != 8 {
			t.Errorf("%d are in, want all 8", in.Load())
		}
		f.leave(t.Context(), time.Now(), time.Now(), 500, errors.New("500"))
		if in, _ := rush(t.Context(), f, 1); in.Load() != 1 {
			t.Error("one more does not get in")
		}
	})
}

// What may come from too many requests halves the concurrency; what is an answer to a message does not.
func TestTroubleOfTheDestination(t *testing.T) {
	for status, want := range map[int]int{0: 2, 500: 2, 503: 2, 504: 2, 599: 2, 429: 2, 408: 2, 204: 5, 302: 5, 400: 5, 404: 5, 409: 5, 422: 5} {
		f := newFlow(&Options{Concurrency: ConcurrencyAdaptive}, 64)
		for range firstConcurrency {
			if err := f.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.leave(t.Context(), time.Now(), time.Now(), status, nil)
		if n := f.concurrency.limit(); n != want {
			t.Errorf("%d at once after status %d, want %d", n, status, want)
		}
	}
}

// Whoever waits for a place when the destination turns out to be down is sent away without asking it, later ones are not.
func TestFlowDismisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(&Options{Concurrency: ConcurrencyAdaptive}, 64)
		in, refused := rush(t.Context(), f, 20)
		down := sinks.Unavailable(errors.New("503"), time.Minute)
		f.leave(t.Context(), time.Now(), time.Now(), 503, down)
		synctest.Wait()
		if in.Load() != firstConcurrency || len(refused) != 16 {
			t.Fatalf("%d got in and %d were sent away, want %d and 16", in.Load(), len(refused), firstConcurrency)
		}
		for range 16 {
			if err := <-refused; err != down {
				t.Errorf("sent away with %v", err)
			}
		}
		for range firstConcurrency - 1 {
			f.leave(t.Context(), time.Now(), time.Now(), 503, down)
		}
		if in, _ := rush(t.Context(), f, 1); in.Load() != 1 || f.busy != 1 {
			t.Errorf("a probe does not get in, %d places are taken", f.busy)
		}
	})
}

func TestFlowIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(&Options{Concurrency: ConcurrencyAdaptive}, 64)
		ctx, cancel := context.WithCancel(t.Context())
		in, refused := rush(ctx, f, 10)
		cancel()
		synctest.Wait()
		if len(refused) != 6 || !errors.Is(<-refused, context.Canceled) {
			t.Errorf("%d of those that wait were cancelled, want 6", len(refused))
		}
		for range in.Load() {
			f.leave(ctx, time.Now(), time.Now(), 0, ctx.Err())
		}
		if f.busy != 0 || len(f.waiting) != 0 || f.concurrency.limit() != firstConcurrency {
			t.Errorf("%d places are taken, %d wait, the concurrency has %d: giving up is no trouble", f.busy, len(f.waiting), f.concurrency.limit())
		}
	})
}

// All at once, under the race detector: no place is lost, and the concurrency is never exceeded.
func TestFlowLosesNoPlace(t *testing.T) {
	f := newFlow(&Options{Concurrency: ConcurrencyAdaptive, Rate: 20000, Burst: 5}, 8)
	var busy, most atomic.Int32
	var wg sync.WaitGroup
	down := sinks.Unavailable(errors.New("503"), 0)
	for g := range 32 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%5 == 0 {
					time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
				}
				if f.enter(ctx) == nil {
					n := busy.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					busy.Add(-1)
					status, err := 204, error(nil)
					if (g*i)%41 == 0 {
						status, err = 503, down
					}
					f.leave(ctx, time.Now(), time.Now(), status, err)
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

// An endpoint that asks for a rest gets no request from those that wait already.
func TestRestIsKept(t *testing.T) {
	var requests atomic.Int32
	arrived, answer := make(chan struct{}), make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		arrived <- struct{}{}
		<-answer
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(429)
	})
	s := open(t, Config{URL: srv.URL, Lanes: 16})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
			sinktest.WantKinds(t, out, sinks.KindUnavailable)
			if _, after := sinks.Classify(out[0]); after != 30*time.Second {
				t.Errorf("the outcome asks for %v, want 30s", after)
			}
		})
	}
	for range firstConcurrency {
		<-arrived
	}
	close(answer)
	wg.Wait()
	if n := requests.Load(); n != firstConcurrency {
		t.Errorf("%d requests to an endpoint that asks for a rest, want %d", n, firstConcurrency)
	}
}

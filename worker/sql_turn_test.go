package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Two lanes look at once, and no more, until one has its hands full or its jobs take their time.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &sqlRun{Worker: &Worker{cfg: Config{Batch: 10}}, turns: make(chan struct{}, turns)}
		get := func() *turn {
			t.Helper()
			began := time.Now()
			got, err := r.turn(t.Context())
			if err != nil || time.Since(began) > 0 {
				t.Fatalf("a turn came after %v, with error %v: want it at once", time.Since(began), err)
			}
			return got
		}
		none := func(what string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), quick/2)
			defer cancel()
			if _, err := r.turn(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s: a third lane got its turn: %v", what, err)
			}
		}
		first, second := get(), get()
		none("two look")
		first.taken(9)
		none("a batch is not full")
		time.Sleep(quick)
		synctest.Wait()
		third := get() // the first one's jobs take their time
		none("two look again")
		second.taken(10) // full
		fourth := get()
		none("two look once more")
		third.end()
		fifth := get()
		fourth.taken(1)
		fourth.end()
		sixth := get()
		for _, one := range []*turn{first, second, fourth} {
			one.end() // has no turn any more
		}
		time.Sleep(2 * quick)
		synctest.Wait()
		none("who gave a turn away gives none")
		fifth.end()
		seventh := get()
		none("two look that take no time")
		time.Sleep(look)
		synctest.Wait()
		eighth := get() // looks take their time
		sixth.end()
		seventh.end()
		eighth.end()
		if n := len(r.turns); n != 0 {
			t.Errorf("%d turns are taken", n)
		}
	})
}

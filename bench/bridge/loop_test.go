package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
)

func TestMain(m *testing.M) {
	child.Run()
	code := m.Run()
	if err := errors.Join(child.Dismiss(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// TestBatches: a batch is what is there, no more than its size, and each message is in one.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var sizes []int
		sent, gate := map[string]bool{}, make(chan struct{})
		b := newBatches(ctx, order{fail: cancel}, 3, nil, same(2, func(_ context.Context, batch []item) error {
			<-gate
			sizes = append(sizes, len(batch))
			for _, m := range batch {
				sent[m.id+string(m.payload)] = true
			}
			return nil
		})...)
		memory := []byte("0")
		for n := range 7 {
			if n < 3 {
				synctest.Wait() // the first two go alone: nothing else was there
			}
			memory[0] = '0' + byte(n)
			if err := b.Put(ctx, memory, memory); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			gate <- struct{}{}
			synctest.Wait()
		}
		if fmt.Sprint(sizes) != "[1 1 3 2]" || len(sent) != 7 || !sent["00"] || !sent["66"] {
			t.Errorf("batches of %v, %v", sizes, sent)
		}
		cancel(nil)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		full := b.Put(ctx, memory, memory)
		for n := 0; full == nil && n < 6; n++ {
			full = b.Put(ctx, memory, memory)
		}
		if !errors.Is(full, context.Canceled) {
			t.Errorf("after the end: %v", full)
		}
	})
}

// TestEndWaitsForConfirms: what is under way when the end comes is waited for, and trouble of it ends all.
func TestEndWaitsForConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, end := context.WithCancel(t.Context())
		ctx, cancel := context.WithCancelCause(asked)
		trouble, closed, why := errors.New("trouble"), false, error(nil)
		b := newBatches(ctx, order{fail: func(err error) { why = err; cancel(err) }}, 3, func() error { closed = true; return nil }, func(ctx context.Context, _ []item) error {
			time.Sleep(time.Minute / 4)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return trouble
		})
		if err := b.Put(ctx, []byte("1"), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		end()
		if err := b.Close(); err != nil || !closed || time.Since(began) != time.Minute/4 {
			t.Errorf("%v after %v, closed: %v", err, time.Since(began), closed)
		}
		if !errors.Is(why, trouble) {
			t.Errorf("it ends with %v", why)
		}
	})
}

func TestNoteAll(t *testing.T) {
	a := &env.Arrivals{}
	noteAll(a, []byte(`xx{"n": 7, "pad": "a"}yy{"n":300,"pad":"b"}{"n": 7, "pad": "a"}`), time.Unix(0, 5))
	if times := a.Times(); a.Count() != 2 || a.Again() != 1 || times[7] != 5 || times[300] != 5 {
		t.Errorf("%d arrivals, %d again", a.Count(), a.Again())
	}
}

// TestKinds: each kind has everything, and another one is named in the error.
func TestKinds(t *testing.T) {
	if _, err := of("fax"); err == nil || err.Error() != `there is no destination of the kind "fax"` {
		t.Error(err)
	}
	for _, k := range All() {
		if k.Label == "" || k.Served == "" || k.Heard == "" || k.start == nil || k.loop == nil || k.sink == nil || k.sink("127.0.0.1:1").URL == "" {
			t.Errorf("%s: something is missing: %+v", k.Name, k)
		}
	}
}

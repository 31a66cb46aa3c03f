package webhook

import (
	"context"
	"slices"
	"sync"
	"time"
)

// flow stands before every request: it waits until the destination can be asked to take one more.
type flow struct {
	limiter limiter

	mu          sync.Mutex
	adaptive    bool
	concurrency concurrency
	busy        int
	waiting     []*waiter
	current     *spell
	ended       error // for good
}

// waiter waits for a place. Granted is set, and turn closed, when it has one.
type waiter struct {
	turn    chan struct{}
	granted bool
}

// spell is a time in which the destination is up, as far as is known. Whoever waits in it when it ends need not ask.
type spell struct {
	ended chan struct{}
	err   error // why; set before ended is closed
}

func newFlow(o *Options, lanes int) *flow {
	return &flow{limiter: newLimiter(o), adaptive: o.Concurrency == ConcurrencyAdaptive, concurrency: newConcurrency(lanes),
		current: &spell{ended: make(chan struct{})}}
}

// enter waits for a place and a token. Unless there is an error, leave must follow. The error is that of ctx, or the outcome
// with which somebody else has found the destination down meanwhile.
func (f *flow) enter(ctx context.Context) error {
	sp, err := f.place(ctx)
	if err != nil {
		return err
	}
	if err := f.limiter.wait(ctx, sp); err != nil {
		f.free()
		return err
	}
	return nil
}

// place waits for one of the places that the concurrency allows.
func (f *flow) place(ctx context.Context) (*spell, error) {
	f.mu.Lock()
	sp := f.current
	switch {
	case f.ended != nil:
		f.mu.Unlock()
		return nil, f.ended
	case !f.adaptive || f.busy < f.concurrency.limit() && len(f.waiting) == 0:
		f.busy++
		f.mu.Unlock()
		return sp, nil
	}
	w := &waiter{turn: make(chan struct{})}
	f.waiting = append(f.waiting, w)
	f.mu.Unlock()
	select {
	case <-w.turn:
		return sp, nil
	case <-sp.ended:
		f.withdraw(w)
		return nil, sp.err
	case <-ctx.Done():
		f.withdraw(w)
		return nil, ctx.Err()
	}
}

// withdraw gives up waiting, and the place if it came at the same moment.
func (f *flow) withdraw(w *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.granted {
		f.busy--
		f.next()
		return
	}
	f.waiting = slices.DeleteFunc(f.waiting, func(other *waiter) bool { return other == w })
}

// free gives a place back of which nothing was learned.
func (f *flow) free() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.next()
}

// leave gives the place back and learns from what came of the request. Status is 0 if there was no answer.
func (f *flow) leave(ctx context.Context, began, now time.Time, status int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil: // given up by us
	case overloaded(status):
		f.concurrency.bad(began, now)
	default:
		f.concurrency.good(began, now, f.busy >= f.concurrency.limit())
	}
	f.busy--
	if down := ifDown(err); down != nil {
		f.dismiss(down)
	}
	f.next()
}

// overloaded says whether a failure may come from too many requests. Other errors are answers.
func overloaded(status int) bool {
	return status == 0 || status >= 500 || status == 429 || status == 408
}

// end makes err the outcome of all that is to come.
func (f *flow) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = err
	f.dismiss(err)
}

// dismiss sends away all that wait.
func (f *flow) dismiss(err error) {
	f.current.err = err
	close(f.current.ended)
	f.waiting = nil
	f.current = &spell{ended: make(chan struct{})}
}

// next lets go on as many as have room.
func (f *flow) next() {
	for len(f.waiting) > 0 && f.busy < f.concurrency.limit() {
		f.busy++
		f.waiting[0].granted = true
		close(f.waiting[0].turn)
		f.waiting = slices.Delete(f.waiting, 0, 1)
	}
}

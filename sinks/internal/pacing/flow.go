package pacing

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Flow stands before every delivery: it waits until the destination can be asked to take one more. Its methods may be called by
// several goroutines at once.
type Flow struct {
	limiter limiter

	mu          sync.Mutex
	adaptive    bool
	concurrency concurrency
	busy        int       // places that are taken
	waiting     []*waiter // for a place, longest first
	current     *upPeriod
	ended       error // for good; nil while the destination wants more
}

// waiter waits for a place. Granted is set, and turn closed, when it has one.
type waiter struct {
	turn    chan struct{}
	granted bool
}

// upPeriod is a time in which the destination is up, as far as is known. When it ends, all who wait in it stop waiting.
type upPeriod struct {
	ended chan struct{}
	err   error // why; set before ended is closed
}

// Config says what a destination bears.
type Config struct {
	// Rate is the most deliveries that begin in a second, zero for no bound. Burst is how many may begin at once; zero means a tenth of
	// a second's worth, at least one.
	Rate  float64
	Burst int
	// Adaptive bounds those under way by what the destination bears, up to Lanes; else nothing does.
	Adaptive bool
	Lanes    int
}

// New returns a Flow for one destination.
func New(c Config) *Flow {
	return &Flow{limiter: newLimiter(c), adaptive: c.Adaptive, concurrency: newConcurrency(c.Lanes), current: &upPeriod{ended: make(chan struct{})}}
}

// Result is what came of a delivery.
type Result struct {
	Began, Ended time.Time
	// Overloaded says that it failed, and that this may come from too many at once.
	Overloaded bool
	// Down is the outcome of all that wait, if the destination is down or asks for a rest; else nil.
	Down error
}

// Enter waits for a place and a token. Unless there is an error, Leave must follow. The error is that of ctx, or the outcome
// with which somebody else has found the destination down meanwhile.
func (f *Flow) Enter(ctx context.Context) error {
	up, err := f.place(ctx)
	if err != nil {
		return err
	}
	if err := f.limiter.wait(ctx, up); err != nil {
		f.free()
		return err
	}
	return nil
}

// place waits for one of the places that the concurrency allows.
func (f *Flow) place(ctx context.Context) (*upPeriod, error) {
	f.mu.Lock()
	up := f.current
	switch {
	case f.ended != nil:
		f.mu.Unlock()
		return nil, f.ended
	case !f.adaptive || f.busy < f.concurrency.limit() && len(f.waiting) == 0:
		f.busy++
		f.mu.Unlock()
		return up, nil
	}
	w := &waiter{turn: make(chan struct{})}
	f.waiting = append(f.waiting, w)
	f.mu.Unlock()
	select {
	case <-w.turn:
		return up, nil
	case <-up.ended:
		f.withdraw(w)
		return nil, up.err
	case <-ctx.Done():
		f.withdraw(w)
		return nil, ctx.Err()
	}
}

// Waiting returns how many wait for a place.
func (f *Flow) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)
}

// withdraw gives up waiting, and the place if it came at the same moment.
func (f *Flow) withdraw(w *waiter) {
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
func (f *Flow) free() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.next()
}

// Leave gives the place back and learns from what came of the delivery, unless it was given up because ctx ended.
func (f *Flow) Leave(ctx context.Context, r Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case r.Overloaded:
		f.concurrency.bad(r.Began, r.Ended)
	default:
		f.concurrency.good(r.Began, r.Ended, f.busy >= f.concurrency.limit())
	}
	f.busy--
	if r.Down != nil {
		f.dismiss(r.Down)
	}
	f.next()
}

// End makes err the outcome of all that is to come.
func (f *Flow) End(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = err
	f.dismiss(err)
}

// dismiss sends away all that wait.
func (f *Flow) dismiss(err error) {
	f.current.err = err
	close(f.current.ended)
	f.waiting = nil
	f.current = &upPeriod{ended: make(chan struct{})}
}

// next lets go on as many as have room.
func (f *Flow) next() {
	for len(f.waiting) > 0 && f.busy < f.concurrency.limit() {
		f.busy++
		f.waiting[0].granted = true
		close(f.waiting[0].turn)
		f.waiting = slices.Delete(f.waiting, 0, 1)
	}
}

package pull

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
)

// Hub is where workers come for the jobs of all subscriptions of this process that have them. Its methods may be called by several
// goroutines at once. Make one with NewHub.
type Hub struct {
	mu    sync.Mutex
	core  *core
	timer *time.Timer
	armed time.Time // when the timer fires
}

// ErrUnsure is for callers whom this relay cannot answer now, since it is not certain that it still owns its subscriptions.
var ErrUnsure = errors.New("this relay has not heard from the database for a while, and another one may have its subscriptions by now")

// Caller is the worker that calls.
type Caller struct {
	Worker, Incarnation string
	// Holding is all that it has, if HoldsAll; what it leaves out goes to others.
	Holding  []Held
	HoldsAll bool
}

// NewHub makes a hub. Confirmed says whether this relay is certain, at this moment, that it owns its subscriptions. Lost is told of workers that
// are gone with jobs, and must not wait.
func NewHub(confirmed func() bool, lost func(Lost), log *slog.Logger) *Hub {
	h := &Hub{core: newCore()}
	c := h.core
	c.confirmed, c.newToken = confirmed, newTokens()
	c.lost = func(l Lost) {
		log.Warn("a worker is lost: its jobs go to others", "worker", l.Worker, "reason", l.Reason, "jobs", l.All, "silent_for", l.Silent.Round(time.Millisecond))
		lost(l)
	}
	c.ended = func(done <-chan struct{}) { h.do(func() { c.drop(done) }) }
	h.timer = time.AfterFunc(time.Hour, func() { h.do(func() { h.armed = time.Time{} }) })
	return h
}

// do carries out a step, and what follows from it.
func (h *Hub) do(step func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.core
	c.now = time.Now()
	step()
	c.look()
	c.settleDown()
	if len(c.checks) > 0 && (h.armed.IsZero() || c.checks[0].check.Before(h.armed)) {
		h.armed = c.checks[0].check
		h.timer.Reset(max(h.armed.Sub(c.now), time.Millisecond))
	}
}

// Take returns jobs for the worker. If there are none it waits for some, at most for so long.
func (h *Hub) Take(ctx context.Context, by Caller, wants []Want, wait time.Duration) (jobs []Job, err error) {
	var x *call
	h.do(func() {
		var w *worker
		if w, err = h.enter(by); err != nil {
			return
		}
		if jobs = shown(h.core.take(w, wants)); len(jobs) == 0 && wait > 0 {
			x = h.core.await(w, wants)
		}
	})
	if x == nil {
		return h.load(ctx, jobs), err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-x.ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	h.do(func() {
		taken := h.core.collect(x)
		if ctx.Err() != nil { // nobody is there to have them
			for _, j := range taken {
				h.core.again(j, false)
			}
			return
		}
		jobs = shown(taken)
	})
	return h.load(ctx, jobs), ctx.Err()
}

// load reads the message of a large job, which is alone. If that cannot be done, nothing is handed out.
func (h *Hub) load(ctx context.Context, jobs []Job) []Job {
	if len(jobs) != 1 || jobs[0].Load == nil {
		return jobs
	}
	one := &jobs[0]
	m, free, err := one.Load(ctx)
	if err == nil {
		one.Message, one.Free = m, free
		if _, err = m.HeaderMap(); err == nil {
			return jobs
		}
		free()
		err = sinks.Permanent(err)
	}
	h.do(func() {
		switch j := h.core.byToken[parseToken(one.Token)]; {
		case j == nil || j.with == nil: // it was given up meanwhile
		case ctx.Err() != nil:
			h.core.again(j, false)
		default:
			h.core.end(j, err)
		}
	})
	return nil
}

// Has says whether a subscription is open here.
func (h *Hub) Has(subscription string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.core.lines[subscription].here()
}

// enter notes the call, and what the worker says that it holds.
func (h *Hub) enter(by Caller) (*worker, error) {
	if !h.core.confirmed() {
		return nil, ErrUnsure
	}
	h.core.look() // a worker that was silent for too long has nothing any more
	w, err := h.core.called(by)
	if err == nil && by.HoldsAll {
		h.core.holding(w, by.Holding)
	}
	return w, err
}

func shown(taken []*job) []Job {
	jobs := make([]Job, len(taken))
	for i, j := range taken {
		jobs[i] = j.show()
	}
	return jobs
}

// Settle ends jobs as the worker says, and answers each.
func (h *Hub) Settle(by Caller, items []Item) (answers []Answer, err error) {
	h.do(func() {
		if _, err = h.enter(by); err != nil {
			return
		}
		answers = make([]Answer, len(items))
		for i, item := range items {
			answers[i] = h.core.settle(item)
		}
	})
	return answers, err
}

// Gone is what a worker holds and should not work on any more.
type Gone struct {
	Lost      []Held // somebody else's by now
	Cancelled []Held // nobody's
}

// Beat notes that the worker lives, and how far it has come. It returns what it holds no more, and of which subscriptions that were named
// nothing could be noted, since they are not here.
func (h *Hub) Beat(by Caller, working []Working) (gone Gone, away []string, err error) {
	h.do(func() {
		if _, err = h.enter(by); err != nil {
			return
		}
		all := by.Holding
		for _, p := range working {
			if !h.core.lines[p.Subscription].here() {
				away = append(away, p.Subscription)
			}
			h.core.progress(p)
			all = append(all, p.Held)
		}
		gone = Gone{h.core.answered(Late, all), h.core.answered(Cancelled, all)}
	})
	return gone, away, err
}

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	longPoll   = 30 * time.Second // the longest wait of a take
	maxItems   = 1000             // of a request
	gather     = 2 * time.Millisecond
	retryFirst = 100 * time.Millisecond
	retryLast  = 5 * time.Second
)

// takeAll takes until ctx is cancelled or a relay refuses what no time mends, before it has ever answered well.
func (p *puller) takeAll(ctx, handlers context.Context) error {
	wait, worked := retryFirst, false
	for p.room(ctx) && p.exclusive(ctx) {
		err := p.take(ctx, handlers)
		p.release()
		if err == nil {
			wait, worked = retryFirst, true
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok && !worked && !refused.passes() {
			return err
		}
		if !errors.Is(err, errInterrupted) {
			p.cfg.Logger.Warn("worker: cannot take jobs, will try again", "worker", p.cfg.Name, "error", err, "in", wait)
			sleep(ctx, wait)
			wait = later(wait)
		}
	}
	return nil
}

// room waits until there is room for jobs: for half of all slots, or a moment longer than for the first one, so that a worker that is
// busy with short jobs makes few requests. It reports false when ctx is cancelled.
func (p *puller) room(ctx context.Context) bool {
	var timeout <-chan time.Time
	for {
		free := p.freeSlots()
		if 2*free >= p.cfg.Concurrency {
			return ctx.Err() == nil
		}
		if free > 0 && timeout == nil {
			timer := time.NewTimer(gather)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-timeout:
			return true
		case <-p.changed:
		}
	}
}

// freeSlots is how many jobs may be asked for.
func (p *puller) freeSlots() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet || len(p.waiting) > 0 {
		return 0
	}
	return p.free
}

// errInterrupted is of a take that a beat could not wait for.
var errInterrupted = errors.New("interrupted for a beat")

// take makes one request that settles what has ended, takes jobs, and starts them.
func (p *puller) take(ctx, handlers context.Context) error {
	calls, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.mu.Lock()
	p.cut = func() { cancel(errInterrupted) }
	holding := p.listIfUnclear()
	wait := longPoll
	if len(p.held) > 0 {
		wait = min(wait, p.cfg.Beat) // a beat must not be out with a take
	}
	p.mu.Unlock()
	from := p.from()
	items := []item(nil)
	if holding == nil {
		items = p.takeDone()
	}
	var got *answer
	var err error
	if len(items) > 0 {
		got, err = p.client.post(calls, "settle", settleRequest{p.cfg.Name, p.incarnation, items, &settleTake{from, wait.String()}}, wait)
	} else {
		got, err = p.client.post(calls, "take", takeRequest{p.cfg.Name, p.incarnation, from, wait.String(), holding}, wait)
	}
	p.mu.Lock()
	p.cut = nil
	p.unclear = err != nil
	p.mu.Unlock()
	if err != nil {
		p.again(items)
		return err
	}
	p.answered(items, got)
	p.began(handlers, got)
	return nil
}

// listIfUnclear lists what is held when the last answer did not arrive: what it brought is then released at once.
func (p *puller) listIfUnclear() *[]ref {
	if !p.unclear {
		return nil
	}
	list := p.list()
	return &list
}

func (p *puller) list() []ref {
	list := make([]ref, 0, len(p.held))
	for r, h := range p.held {
		if h.stopped != ErrLost {
			list = append(list, r)
		}
	}
	return list
}

func (p *puller) from() (list []wanted) {
	free := min(max(p.freeSlots(), 1), maxItems)
	for _, s := range p.subscriptions {
		list = append(list, wanted{s, free})
	}
	return list
}

// began notes the jobs that have come and starts as many as there are slots.
func (p *puller) began(handlers context.Context, got *answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = got.Quiet
	for i := range got.Jobs {
		t := &got.Jobs[i]
		h := &heldJob{ref: t.ref, job: t.job()}
		p.held[t.ref] = h
		p.waiting = append(p.waiting, h)
	}
	p.startWaiting(handlers)
}

// startWaiting gives free slots to jobs that wait for one. The lock is held.
func (p *puller) startWaiting(handlers context.Context) {
	for p.free > 0 && len(p.waiting) > 0 {
		h := p.waiting[0]
		p.waiting = p.waiting[1:]
		if h.stopped != nil {
			p.giveBack(h)
			continue
		}
		p.free--
		ctx, cancel := context.WithCancelCause(handlers)
		h.cancel = cancel
		h.job.progress = func(percent int, note string) { p.note(h, percent, note) }
		p.jobs.Go(func() {
			p.work(ctx, nil, h.job, func(out Outcome) { p.ended(handlers, h, out) })
		})
	}
}

// giveBack lets go of a job that has not begun. The lock is held.
func (p *puller) giveBack(h *heldJob) {
	h.ended = true
	if h.stopped == ErrLost {
		delete(p.held, h.ref)
	} else {
		p.done = append(p.done, item{ref: h.ref, Outcome: kindRelease})
	}
}

// ended queues what became of a job, and gives its slot to the next one.
func (p *puller) ended(handlers context.Context, h *heldJob, out Outcome) {
	h.cancel(nil)
	p.mu.Lock()
	h.ended = true
	p.free++
	if out.Kind == "" {
		delete(p.held, h.ref)
	} else {
		i := item{ref: h.ref, Outcome: out.Kind, Reason: out.Reason, Result: out.Result}
		if out.After > 0 || out.Kind == kindSnooze {
			i.After = out.After.String()
		}
		p.done = append(p.done, i)
	}
	p.startWaiting(handlers)
	p.mu.Unlock()
	p.signal()
}

// signal wakes whoever waits for a change.
func (p *puller) signal() {
	for _, c := range []chan struct{}{p.changed, p.settleNow} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// exclusive waits until neither a take nor a beat is out.
func (p *puller) exclusive(ctx context.Context) bool {
	select {
	case p.call <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *puller) release() { <-p.call }

// sleep waits for about d.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func later(d time.Duration) time.Duration { return min(2*d, retryLast) }

package worker

import (
	"context"
	"errors"
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
		if !worked && refusedForGood(err) || replaced(err) {
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
		wait = min(wait, p.cfg.Beat/2) // a beat must not be out with a take: see interrupt
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
		if refusedForGood(err) && len(items) > 0 {
			return p.settleEach(ctx, p.takeDone())
		}
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

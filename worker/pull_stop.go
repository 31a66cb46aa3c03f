package worker

import (
	"context"
	"time"
)

// refuse gives jobs back that have not begun: others can do them now.
func (p *puller) refuse() {
	p.mu.Lock()
	for _, h := range p.waiting {
		p.giveBack(h)
	}
	p.waiting = nil
	unclear := p.unclear
	p.mu.Unlock()
	p.signal()
	if unclear {
		p.wakeBeater() // whatever the last take was just bringing goes to others now, not after the drain
	}
}

const afterCancel = 2 * time.Second // how long a handler may go on once its context is cancelled

// drain waits for the handlers, and returns how many do not end.
func (p *puller) drain(abandon context.CancelCauseFunc) (left int) {
	ended := make(chan struct{})
	go func() { p.jobs.Wait(); close(ended) }()
	select {
	case <-ended:
		return 0
	case <-time.After(p.cfg.Drain):
	}
	abandon(ErrShutdown)
	select {
	case <-ended:
		return 0
	case <-time.After(afterCancel):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.held {
		if !h.ended {
			left++
		}
	}
	return left
}

// farewell settles the rest and says that nothing is held any more, which releases what did not end.
func (p *puller) farewell(ctx context.Context, left int) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for wait := retryFirst; p.pending() && ctx.Err() == nil; wait = later(wait) {
		if items := p.takeDone(); len(items) > 0 {
			if p.settle(ctx, items) == nil {
				continue
			}
		}
		sleep(ctx, wait) // the other settler has them, or the relay is away
	}
	if !p.exclusive(ctx) {
		return
	}
	defer p.release()
	nothing := []ref{}
	if _, err := p.client.post(ctx, "beat", beatRequest{Worker: p.cfg.Name, Incarnation: p.incarnation, Holding: &nothing}, 0); err != nil {
		p.cfg.Logger.Warn("worker: the relay was not told that the worker stops; it will notice", "worker", p.cfg.Name, "error", err, "handlers left", left)
	}
}

// pending reports whether something that has ended is not settled.
func (p *puller) pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.held {
		if h.ended && h.stopped != ErrLost {
			return true
		}
	}
	return false
}

package worker

import (
	"context"
	"time"
)

// beatAll beats while something is held or the relay wants quiet, until ctx is cancelled.
func (p *puller) beatAll(ctx context.Context) {
	ticker := time.NewTicker(p.cfg.Beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.beatNow:
			pause(ctx, min(p.cfg.Beat/8, time.Second)) // more progress may come
		}
		if !p.hasToBeat() || !p.interrupt(ctx) {
			continue
		}
		err := p.beat(ctx)
		p.release()
		if err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("worker: cannot beat, will try again", "worker", p.cfg.Name, "error", err)
		}
	}
}

func (p *puller) hasToBeat() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held) > 0 || p.quiet || p.unclear
}

// interrupt is exclusive for a beat. A take does not wait for longer than half of a beat's interval. One that takes all of it hangs, and is
// given up: what it may be bringing goes back.
func (p *puller) interrupt(ctx context.Context) bool {
	patience, cancel := context.WithTimeout(ctx, p.cfg.Beat)
	defer cancel()
	if p.exclusive(patience) {
		return true
	}
	p.mu.Lock()
	if p.cut != nil {
		p.cut()
	}
	p.mu.Unlock()
	return p.exclusive(ctx)
}

// beat says what is held and how far it is, and hears what is not wanted any more.
func (p *puller) beat(ctx context.Context) error {
	p.mu.Lock()
	holding := p.list()
	var told []progress
	var tellers []*heldJob
	for _, h := range p.held {
		if h.progress != nil && h.stopped != ErrLost {
			told, tellers = append(told, *h.progress), append(tellers, h)
			h.progress = nil
		}
	}
	p.mu.Unlock()
	got, err := p.client.postWithin(ctx, "beat", beatRequest{p.cfg.Name, p.incarnation, &holding, told}, min(max(p.cfg.Beat, beatTime), answerTime))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		for i, h := range tellers {
			if h.progress == nil {
				h.progress = &told[i]
			}
		}
		return err
	}
	p.quiet, p.unclear = got.Quiet, false
	p.stop(got.Lost, ErrLost)
	p.stop(got.Cancel, ErrCancelled)
	p.signal()
	return nil
}

// stop cancels the contexts of jobs. The lock is held.
func (p *puller) stop(jobs []ref, cause error) {
	for _, r := range jobs {
		h := p.held[r]
		if h == nil || h.ended {
			continue
		}
		h.stopped = cause
		if h.cancel != nil {
			h.cancel(cause)
		}
	}
}

// note keeps the newest progress of a job for the next beat.
func (p *puller) note(h *heldJob, percent int, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.ended {
		return
	}
	h.progress = &progress{h.ref, percent, note}
	p.wakeBeater()
}

func (p *puller) wakeBeater() {
	select {
	case p.beatNow <- struct{}{}:
	default:
	}
}

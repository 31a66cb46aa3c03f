package worker

import "context"

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

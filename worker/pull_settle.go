package worker

import (
	"context"
	"slices"
	"time"
)

const maxItemBytes = 4 << 20 // of the results and reasons of a request, about

// settleAll settles what ends and no take carries along, until ctx is cancelled.
func (p *puller) settleAll(ctx context.Context) {
	wait := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.settleNow:
		}
		pause(ctx, gather) // a take may come for it, or more may end
		for {
			items := p.takeDone()
			if len(items) == 0 {
				break
			}
			err := p.settle(ctx, items)
			if refusedForGood(err) {
				err = p.settleEach(ctx, p.takeDone())
			}
			if err == nil {
				wait = retryFirst
			} else if ctx.Err() != nil {
				return
			} else {
				p.cfg.Logger.Warn("worker: cannot settle jobs, will try again", "worker", p.cfg.Name, "jobs", len(items), "error", err, "in", wait)
				sleep(ctx, wait)
				wait = later(wait)
			}
		}
	}
}

// settle makes one request. After an error the items are there again: their tokens make a repetition harmless.
func (p *puller) settle(ctx context.Context, items []item) error {
	got, err := p.client.post(ctx, "settle", settleRequest{Worker: p.cfg.Name, Incarnation: p.incarnation, Items: items}, 0)
	if err != nil {
		p.again(items)
		return err
	}
	p.answered(items, got)
	return nil
}

// settleEach settles items one by one, since a relay refuses one of them for good: that one is said to have failed, or if it does not
// take that either, forgotten, so that the next beat gives it back.
func (p *puller) settleEach(ctx context.Context, items []item) error {
	for i, it := range items {
		err := p.settle(ctx, []item{it})
		if err == nil {
			continue
		}
		p.takeBack(it)
		if !refusedForGood(err) || replaced(err) {
			p.again(items[i:])
			return err
		}
		p.cfg.Logger.Error("worker: the relay refuses what became of a job", "worker", p.cfg.Name, "subscription", it.Subscription, "id", it.ID, "outcome", it.Outcome, "error", err)
		if it.Outcome == kindRetry && it.After == "" {
			p.forget(it)
		} else {
			p.again([]item{{ref: it.ref, Outcome: kindRetry, Reason: text("the outcome "+it.Outcome+" was refused: "+err.Error(), maxReason)}})
		}
	}
	return nil
}

// takeBack takes an item out of what is to be settled.
func (p *puller) takeBack(it item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = slices.DeleteFunc(p.done, func(d item) bool { return d.ref == it.ref })
}

func (p *puller) forget(it item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, it.ref)
}

// takeDone takes over what is to be settled, as much as a request may hold.
func (p *puller) takeDone() []item {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, size := 0, 0
	for n < min(len(p.done), maxItems) && size < maxItemBytes {
		size += len(p.done[n].Result) + len(p.done[n].Reason)
		n++
	}
	items := p.done[:n:n]
	if p.done = p.done[n:]; len(p.done) == 0 {
		p.done = nil
	}
	return items
}

func (p *puller) again(items []item) {
	if len(items) == 0 {
		return
	}
	p.mu.Lock()
	p.done = append(items, p.done...)
	p.mu.Unlock()
	p.signal()
}

// answered lets go of what is settled. Answers stand in the order of the items.
func (p *puller) answered(items []item, got *answer) {
	if len(items) == 0 {
		return
	}
	var late []*Job
	var open []item
	wait := retryFirst
	p.mu.Lock()
	for i, it := range items {
		h := p.held[it.ref]
		if !got.answers(i, it) {
			if h != nil {
				wait = max(wait, h.moved)
				h.moved = later(wait)
			}
			open = append(open, it)
			continue
		}
		if h != nil && got.Items[i].Answer == answerLate && it.Outcome == kindDone {
			late = append(late, h.job)
		}
		delete(p.held, it.ref)
	}
	p.mu.Unlock()
	if len(open) > 0 {
		time.AfterFunc(wait, func() { p.again(open) })
	}
	p.tellLate(late)
}

// answers says whether an item is settled. One whose subscription changes hands is not, nor is one that the answer does not name.
func (a *answer) answers(i int, it item) bool {
	return i < len(a.Items) && a.Items[i].ID == it.ID && a.Items[i].Subscription == it.Subscription && a.Items[i].Answer != answerMoving
}

// tellLate calls OnLate, one job at a time.
func (p *puller) tellLate(jobs []*Job) {
	if len(jobs) == 0 {
		return
	}
	p.lateMu.Lock()
	defer p.lateMu.Unlock()
	for _, job := range jobs {
		p.cfg.Logger.Warn("worker: a job was done after others had got it", "worker", p.cfg.Name, "subscription", job.Subscription, "id", job.ID, "attempt", job.Attempt)
		if p.cfg.OnLate != nil {
			p.cfg.OnLate(job)
		}
	}
}

// pause waits for exactly d.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

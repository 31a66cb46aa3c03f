package worker

import (
	"context"
	"math/rand/v2"
	"time"
)

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

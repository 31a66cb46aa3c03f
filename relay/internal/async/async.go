package async

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Sleep waits and returns false if ctx was cancelled first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// ReconnectBackoff is the waiting between attempts to reach the database.
func ReconnectBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

// Signal wakes whoever waits for the channel, which has room for one value.
func Signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

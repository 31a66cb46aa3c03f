package subscription

import (
	"math/rand/v2"
	"time"
)

// Backoff is the wait before the next attempt after so many.
func (s *Settings) Backoff(attempts int) time.Duration {
	if n := len(s.BackoffSchedule); n > 0 {
		return jitter(float64(s.BackoffSchedule[min(max(attempts, 1), n)-1]))
	}
	return retryDelay(attempts, time.Duration(s.BackoffInitial), time.Duration(s.BackoffMax))
}

// retryDelay is the wait before the next attempt after so many: doubling from first up to most.
func retryDelay(attempts int, first, most time.Duration) time.Duration {
	d := float64(first)
	for i := 1; i < attempts && d < float64(most); i++ {
		d *= 2
	}
	return jitter(min(d, float64(most)))
}

// jitter varies a wait by a fifth either way, so that what failed together does not come back together.
func jitter(wait float64) time.Duration {
	return time.Duration(min(wait*(0.8+0.4*rand.Float64()), 1<<62)) // within what a Duration holds
}

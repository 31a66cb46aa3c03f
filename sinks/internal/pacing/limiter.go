package pacing

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds how many deliveries begin in a time. The zero value bounds nothing.
type limiter struct{ *rate.Limiter }

func newLimiter(c Config) limiter {
	if c.Rate == 0 {
		return limiter{}
	}
	burst := c.Burst
	if burst == 0 {
		burst = max(1, int(c.Rate/10)) // else late timers would cost some of a high rate
	}
	return limiter{rate.NewLimiter(rate.Limit(c.Rate), burst)}
}

// errRateWait says that the next token comes later than the context ends.
var errRateWait = fmt.Errorf("the rate limit asks for a longer wait than there is time: %w", context.DeadlineExceeded)

// wait waits for a token. It gives up when ctx or the period ends, and at once if ctx will end before there is one.
func (l limiter) wait(ctx context.Context, up *upPeriod) error {
	if l.Limiter == nil {
		return nil
	}
	token := l.Reserve()
	delay := token.Delay()
	if delay == 0 {
		return nil
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < delay {
		token.Cancel()
		return errRateWait
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-up.ended:
		token.Cancel()
		return up.err
	case <-ctx.Done():
		token.Cancel()
		return ctx.Err()
	}
}

package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/postrider/postrider/sinks"
)

const (
	maxRate  = 1e6
	maxBurst = 1e6
)

// limiter bounds how many requests begin in a time. The zero value bounds nothing.
type limiter struct{ *rate.Limiter }

func newLimiter(o *Options) limiter {
	if o.Rate == 0 {
		return limiter{}
	}
	burst := o.Burst
	if burst == 0 {
		burst = max(1, int(o.Rate/10)) // else late timers would cost some of a high rate
	}
	return limiter{rate.NewLimiter(rate.Limit(o.Rate), burst)}
}

// errRateWait is for who would have to wait longer than there is time.
var errRateWait = fmt.Errorf("the rate limit asks for a longer wait than there is time: %w", context.DeadlineExceeded)

// wait waits for a token. It gives up when ctx or the spell ends, and at once if ctx will end before there is one.
func (l limiter) wait(ctx context.Context, sp *spell) error {
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
	case <-sp.ended:
		token.Cancel()
		return sp.err
	case <-ctx.Done():
		token.Cancel()
		return ctx.Err()
	}
}

func (o *Options) checkRate() error {
	switch {
	case !(o.Rate >= 0 && o.Rate <= maxRate) || o.Rate > 0 && o.Rate < 1e-6:
		return fmt.Errorf("rate %v: must be from 0.000001 to %d requests per second, or 0 for no limit", o.Rate, int(maxRate))
	case o.Burst < 0 || o.Burst > maxBurst:
		return fmt.Errorf("burst %d: must be from 1 to %d requests", o.Burst, int(maxBurst))
	case o.Burst > 0 && o.Rate == 0:
		return errors.New("burst has no meaning without rate")
	case o.RetryAfterMax < 0:
		return fmt.Errorf("retry_after_max %v: must be above zero", time.Duration(o.RetryAfterMax))
	case o.Receipts < 0 || o.Receipts > maxReceipts:
		return fmt.Errorf("receipts %d: must be from 0 to %d bytes", o.Receipts, maxReceipts)
	case o.Concurrency != ConcurrencyAdaptive && o.Concurrency != ConcurrencyFixed:
		return sinks.Unknown(fmt.Errorf("concurrency %q: must be %s or %s", o.Concurrency, ConcurrencyAdaptive, ConcurrencyFixed))
	}
	return nil
}

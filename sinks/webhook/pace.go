package webhook

import (
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/pacing"
)

// How requests at once are bounded, for Options.Concurrency.
const (
	ConcurrencyAdaptive = "adaptive" // by what the destination bears, within the lanes
	ConcurrencyFixed    = "fixed"    // by the lanes alone
)

const (
	maxRate  = 1e6
	maxBurst = 1e6
)

// pace is what the options ask for.
func (o *Options) pace(lanes int) pacing.Config {
	return pacing.Config{Rate: o.Rate, Burst: o.Burst, Adaptive: o.Concurrency == ConcurrencyAdaptive, Lanes: lanes}
}

// overloaded says whether a failure may come from too many requests. Other errors are answers. Status is 0 if there was none.
func overloaded(status int) bool {
	return status == 0 || status >= 500 || status == 429 || status == 408
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

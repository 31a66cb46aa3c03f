package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// DefaultRetryAfterMax is the default of Options.RetryAfterMax.
const DefaultRetryAfterMax = time.Hour

// byStatus holds the statuses whose outcome is not that of their class, in byClass.
var byStatus = map[int]sinks.Kind{
	// The message is at fault, and will be.
	http.StatusBadRequest:            sinks.KindPermanent,
	http.StatusRequestEntityTooLarge: sinks.KindPermanent,
	http.StatusUnsupportedMediaType:  sinks.KindPermanent,
	http.StatusUnprocessableEntity:   sinks.KindPermanent,

	http.StatusGone: sinks.KindGone,

	// The destination as a whole is busy or down.
	http.StatusTooManyRequests:    sinks.KindUnavailable,
	http.StatusBadGateway:         sinks.KindUnavailable,
	http.StatusServiceUnavailable: sinks.KindUnavailable,
	http.StatusGatewayTimeout:     sinks.KindUnavailable,
}

// byClass is indexed by the status divided by 100. A client error may be a mistake in the destination's set-up (401,
// 403, 404, 405) or a matter of time (408, 409, 425): somebody can mend it while the message is retried.
var byClass = [...]sinks.Kind{
	1: sinks.KindRetryable, // 101; the others come before an answer
	2: sinks.KindAccepted,
	3: sinks.KindRetryable,
	4: sinks.KindRetryable,
	5: sinks.KindRetryable,
}

func kindOf(status int) sinks.Kind {
	if k, ok := byStatus[status]; ok {
		return k
	}
	if class := status / 100; class >= 1 && class < len(byClass) {
		return byClass[class]
	}
	return sinks.KindRetryable
}

// kindOf is the table with what the subscription changes in it.
func (s *Sink) kindOf(status int) sinks.Kind {
	switch {
	case len(s.options.Dead)+len(s.options.Retry) == 0:
	case slices.Contains(s.options.Dead, status):
		return sinks.KindPermanent
	case slices.Contains(s.options.Retry, status):
		return sinks.KindRetryable
	}
	return kindOf(status)
}

// checkStatuses looks at Dead and Retry.
func (o *Options) checkStatuses() error {
	for _, list := range []struct {
		setting  string
		statuses []int
	}{{"dead", o.Dead}, {"retry", o.Retry}} {
		for _, status := range list.statuses {
			if status < 300 || status > 599 {
				return fmt.Errorf("%s %d: must be a status from 300 to 599: lower ones are no failures", list.setting, status)
			}
		}
	}
	for _, status := range o.Dead {
		if slices.Contains(o.Retry, status) {
			return fmt.Errorf("dead and retry both hold %d: a status can mean one of them", status)
		}
		// Else an outage would turn all messages into dead letters.
		if kindOf(status) == sinks.KindUnavailable {
			return fmt.Errorf("dead %d: this status says that the destination is busy or down, not that a message is bad", status)
		}
	}
	return nil
}

// outcome makes an error of a failure's kind; nil if it is none.
func outcome(kind sinks.Kind, reason error, after time.Duration) error {
	switch kind {
	case sinks.KindAccepted:
		return nil
	case sinks.KindPermanent:
		return sinks.Permanent(reason)
	case sinks.KindUnavailable:
		return sinks.Unavailable(reason, after)
	case sinks.KindGone:
		return sinks.Gone(reason)
	}
	return sinks.Retryable(reason, after)
}

// retryAfter reads the header of that name: seconds, with any number of digits, or a date (RFC 9110, section 10.2.3), up to most.
// Anything else is zero.
func retryAfter(header string, now time.Time, most time.Duration) time.Duration {
	header = strings.Trim(header, " \t")
	if header == "" {
		return 0
	}
	if strings.Trim(header, "0123456789") != "" {
		t, err := http.ParseTime(header)
		if err != nil {
			return 0
		}
		return min(max(t.Sub(now), 0), most) // Sub keeps to the ends of what a Duration can hold
	}
	// What does not fit into a number is more than anybody waits.
	seconds, err := strconv.ParseInt(header, 10, 64)
	if err != nil || seconds > int64(most/time.Second) {
		return most
	}
	return time.Duration(seconds) * time.Second
}

// retryAfter is what an answer asks for. Its dates are those of the destination's clock.
func (s *Sink) retryAfter(header http.Header, now time.Time) time.Duration {
	if theirs, err := http.ParseTime(header.Get("Date")); err == nil {
		now = theirs
	}
	return retryAfter(header.Get("Retry-After"), now, time.Duration(s.options.RetryAfterMax))
}

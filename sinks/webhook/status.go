package webhook

import (
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/sinks"
)

// maxRetryAfter caps what a destination may ask for.
const maxRetryAfter = time.Hour

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
	1: sinks.KindRetryable,
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

// retryAfter reads the header of that name: seconds, or a date (RFC 9110, section 10.2.3). Anything else is zero.
func retryAfter(header string, now time.Time) time.Duration {
	var d time.Duration
	if s, err := strconv.ParseUint(header, 10, 31); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(header); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

package sinks

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestClassify(t *testing.T) {
	reason := errors.New("reason")
	for _, c := range []struct {
		err   error
		kind  Kind
		after time.Duration
	}{
		{nil, KindAccepted, 0},
		{reason, KindRetryable, 0},
		{Retryable(reason, time.Second), KindRetryable, time.Second},
		{Permanent(reason), KindPermanent, 0},
		{Unavailable(reason, time.Minute), KindUnavailable, time.Minute},
		{Misconfigured(reason), KindMisconfigured, 0},
		{Gone(reason), KindGone, 0},
		{fmt.Errorf("deliver: %w", Gone(reason)), KindGone, 0},
	} {
		kind, after := Classify(c.err)
		if kind != c.kind || after != c.after {
			t.Errorf("Classify(%v) = %v, %v, want %v, %v", c.err, kind, after, c.kind, c.after)
		}
		if c.err != nil && !errors.Is(c.err, reason) {
			t.Errorf("%v outcome hides its reason", kind)
		}
	}
}

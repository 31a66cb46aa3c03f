package delivery

import (
	"testing"

	"github.com/postrider/postrider/sinks"
)

// TestActions walks through all situations.
func TestActions(t *testing.T) {
	plain := map[sinks.Kind]action{sinks.KindAccepted: actSettle, sinks.KindLeased: actLease, sinks.KindPermanent: actBury, sinks.KindGone: actStop,
		sinks.KindSnoozed: actSnooze, sinks.KindReleased: actReturn, sinks.KindFailed: actRetry, sinks.KindLost: actAgain}
	for bits := range 16 {
		s := situation{told: bits&1 > 0, parked: bits&2 > 0, proven: bits&4 > 0, doubt: bits&8 > 0}
		for kind, want := range plain {
			if got := s.action(kind); got != want {
				t.Errorf("outcome %v in %+v: %d, want %d", kind, s, got, want)
			}
		}
		for _, kind := range []sinks.Kind{sinks.KindRetryable, sinks.KindUnavailable, sinks.KindMisconfigured} {
			doubt := s.doubt || kind == sinks.KindUnavailable || kind == sinks.KindMisconfigured
			stays := !s.told || !s.parked && !s.proven && doubt
			if got := s.action(kind); (got == actSuspect) != stays || !stays && got != actRetry {
				t.Errorf("outcome %v in %+v: %d; it stays in its lane: %t", kind, s, got, stays)
			}
		}
	}
}

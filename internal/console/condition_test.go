package console

import (
	"testing"
	"time"

	"github.com/postrider/postrider/internal/admin"
)

// What somebody has to change has another word than what may end by itself.
func TestTroubleHasAWord(t *testing.T) {
	for trouble, want := range map[string]string{
		"destination is down: connection refused":     "down",
		"destination is misconfigured: no such topic": "misconfigured",
		"intake stopped: max_parked messages wait":    "in trouble",
	} {
		s := &admin.SubscriptionStatus{Name: "s", Sink: "stdout:", State: "active", Trouble: trouble}
		if c := conditionOf(s, nil, time.Now()); c.Word != want || c.Level != bad || c.Why != trouble {
			t.Errorf("%s: %+v, want %s", trouble, c, want)
		}
	}
}

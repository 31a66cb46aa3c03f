package delivery

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
)

// A key with a backlog that its limit lets go slowly delays no other for as long as there is room, and is named when there is none.
func TestLimitedKeyIsNamed(t *testing.T) {
	t.Parallel()
	for _, sends := range []bool{false, true} {
		settings := trialSettings[0]
		dest := &destination{sends: sends, limits: subscription.Limits{Per: subscription.PerLimits{By: "key", Limit: subscription.Limit{Rate: subscription.Rate{Count: 1, Per: time.Hour}}}}}
		x := newTrial(settings, dest)
		x.publish(slices.Repeat([]string{"big"}, 500)...)
		small := x.publish("small")
		if !x.run(time.Minute, x.delivered(small)) {
			t.Fatalf("a key with room for it waits behind one without: %s", x.report(small))
		}
		if why := x.x.r.standstill(x.server.now); why != "" {
			t.Errorf("there is room, and it says: %s", why)
		}
		x.publish(slices.Repeat([]string{"big"}, widestLook)...)
		named := func() bool {
			return x.x.r.standstill(x.server.now) == `intake stopped: limited by key "big", of which so many wait that they leave no room for others`
		}
		if !x.run(time.Minute, named) {
			t.Errorf("the key is not named: %q", x.x.r.standstill(x.server.now))
		}
	}
}

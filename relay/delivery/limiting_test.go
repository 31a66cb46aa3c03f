package delivery

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
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

// Of a key whose first message is a suspect, which must wait until something else has got through, the others want nothing yet: whoever took
// them for kept back by their limit would wait for that for ever.
func TestLimitedKeyBehindASuspect(t *testing.T) {
	t.Parallel()
	for _, per := range []subscription.Limit{{Rate: subscription.Rate{Count: 10, Per: time.Minute}}, {InFlight: 1}} {
		for _, sends := range []bool{false, true} {
			dest := &destination{sends: sends, kind: sinks.KindUnavailable, bad: make(map[int64]bool), limits: subscription.Limits{Per: subscription.PerLimits{By: "key", Limit: per}}}
			x := newTrial(trialSettings[1], dest)
			ids := x.publish("good", "bad", "bad", "bad", "bad")
			dest.bad[ids[1]] = true
			rest := slices.Concat(ids[:1], ids[2:])
			if !x.run(time.Hour, x.delivered(rest)) {
				t.Fatalf("limit %+v, one by one %t: they wait for ever: %s", per, sends, x.report(rest))
			}
		}
	}
}

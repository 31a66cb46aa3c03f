package relay

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// What somebody has to change is told apart from what may end by itself, as long as it is so: in status, in metrics, in the record of attempts and in events. Else it
// is like any outage: nothing is parked, and all arrives in the end.
func TestMisconfiguredIsToldApart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var outcome atomic.Value
	says := func(err error) { outcome.Store(&err) }
	says(sinks.Misconfigured(errors.New("topic orders does not exist: create it")))
	alerts, sub := b.subscribe("alerts", "{$postrider.>}", "{}", "now"), b.subscribe("s", "{>}", "{}", "now")
	alerts.answer(nil)
	sub.answer(func(sinks.Delivery) error { return *outcome.Load().(*error) })
	_, g := b.startWatched()
	var ids []int64
	for range 100 {
		ids = append(ids, b.Publish("a", "", `{}`)...)
	}
	told := func(what string, trouble string, down, misconfigured float64) {
		t.Helper()
		eventually(t, what, func() bool {
			return scalar[string](b, "SELECT coalesce(trouble, '') FROM postrider.subscription_status WHERE name = 's'") == trouble &&
				g.sum("destination_down", "s") == down && g.sum("destination_misconfigured", "s") == misconfigured
		})
	}
	told("it is misconfigured", states.Misconfigured+"topic orders does not exist: create it", 1, 1)
	eventually(t, "an event tells of it", func() bool {
		got := alerts.events(t)
		return len(got) > 0 && got[0].Event == "down" && strings.HasPrefix(got[0].Reason, states.Misconfigured)
	})
	eventually(t, "attempts are kept", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.attempts WHERE outcome = 'misconfigured'") > 0
	})
	says(sinks.Unavailable(errors.New("no answer"), 0))
	told("it is down", states.Down+"no answer", 1, 0)
	says(sinks.Misconfigured(errors.New("no such user")))
	told("it is misconfigured again", states.Misconfigured+"no such user", 1, 1)
	if n := scalar[int](b, "SELECT count(*) FROM postrider.parked"); n > 0 {
		t.Errorf("%d messages are parked", n)
	}
	says(nil)
	told("it works", "", 0, 0)
	eventually(t, "all arrive", func() bool { return sub.distinct() == len(ids) })
}

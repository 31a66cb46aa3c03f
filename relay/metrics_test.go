package relay

import (
	"errors"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// series returns the metrics that speak of a subscription, how many of each.
func (g *gauges) series(subscription string) map[string]int {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	found := make(map[string]int)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				if pair.GetName() == "subscription" && pair.GetValue() == subscription {
					found[family.GetName()]++
				}
			}
		}
	}
	return found
}

// A subscription that is removed leaves no series behind, whatever came of its messages; one that is not keeps its own.
func TestMetricsOfARemovedSubscriptionGo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	outcomes := map[string]error{
		"a.retry": sinks.Retryable(errors.New("busy"), 0), "a.dead": sinks.Permanent(errors.New("no")), "a.leased": sinks.Leased(1e9, 1),
	}
	for _, name := range []string{"gone", "stays"} {
		b.subscribe(name, "{>}", `{"max_attempts": 2, "backoff_initial": "1ms"}`, "now").answer(func(d sinks.Delivery) error { return outcomes[d.Topic] })
	}
	_, g := b.startWatched()
	for topic := range outcomes {
		b.Publish(topic, "", `{}`)
	}
	b.Publish("a.ok", "", `{}`)
	b.Exec("SELECT postrider.enqueue('a.ok', '{}', deliver_at => now() + interval '1 hour')")
	complete := func(name string) func() bool {
		return func() bool {
			s := g.series(name)
			return s["postrider_deliveries_total"] >= 4 && s["postrider_parked_total"] >= 3 && s["postrider_delivery_latency_seconds"] == 1 &&
				s["postrider_passes_total"] == 1 && s["postrider_destination_down"] == 1
		}
	}
	eventually(t, "all kinds of series", func() bool { return complete("gone")() && complete("stays")() })
	b.Exec("SELECT postrider.unsubscribe('gone')")
	eventually(t, "the series to go", func() bool { return len(g.series("gone")) == 0 })
	if !complete("stays")() {
		t.Errorf("the other has %v", g.series("stays"))
	}
	b.subscribe("gone", "{>}", "{}", "earliest").answer(nil)
	eventually(t, "a namesake's series", func() bool { return g.series("gone")["postrider_delivery_latency_seconds"] == 1 })
}

// A destination that works again is not down, whatever else is the trouble by then.
func TestDestinationDownIsAboutDestinations(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sub := b.subscribe("s", "{>}", `{"max_parked": 1, "backoff_initial": "1h"}`, "now")
	works := false
	sub.answer(func(d sinks.Delivery) error {
		switch {
		case d.Topic == "bad":
			return sinks.Retryable(errors.New("no"), 0)
		case works:
			return nil
		}
		return sinks.Unavailable(errors.New("no answer"), 0)
	})
	trouble := func(prefix string) func() bool {
		return func() bool {
			return strings.HasPrefix(scalar[string](b, "SELECT coalesce(trouble, '') FROM postrider.cursors"), prefix)
		}
	}
	_, g := b.startWatched()
	answer := make(chan struct{})
	sub.hold(answer)
	b.Publish("good", "", `{}`)
	eventually(t, "a delivery is under way", func() bool { sub.mu.Lock(); defer sub.mu.Unlock(); return sub.calls == 1 })
	sub.hold(nil)
	b.Publish("bad", "", `{}`)
	eventually(t, "intake stops", trouble("intake stopped"))
	close(answer)
	eventually(t, "the destination is down", func() bool { return g.sum("destination_down", "s") == 1 })
	sub.mu.Lock()
	works = true
	sub.mu.Unlock()
	eventually(t, "the destination works", func() bool { return sub.count() == 1 })
	eventually(t, "intake is all that is stopped", trouble("intake stopped"))
	if down := g.sum("destination_down", "s"); down != 0 {
		t.Errorf("destination_down is %v, and the destination works", down)
	}
}

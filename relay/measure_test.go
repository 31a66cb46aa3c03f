package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// looking is for relays of which a test watches what a look shows.
func looking(c *Config) { c.lookEvery, c.lookShare = 20*time.Millisecond, 1 }

// ofLooks is a metric that only a look shows.
const ofLooks = "postrider_lag_messages"

// wholly says whether all that is told of a subscription without a look, and with one, is told by these metrics.
func (g *gauges) wholly(subscription string) bool {
	s := g.series(subscription)
	return s["postrider_subscription_owned"] == 1 && s["postrider_passes_total"] == 1 && s[ofLooks] == 1
}

// only says whether of two relays one tells of the subscription, with or without a look, and the other has no series of it.
func only(subscription string, tells, silent *gauges) func() bool {
	return func() bool { return tells.wholly(subscription) && len(silent.series(subscription)) == 0 }
}

// What was looked up is as the view has it: what is behind, what is parked, and how old that is.
func TestMetricsOfALook(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sub := b.subscribe("s", "{>}", `{"backoff_initial": "1h", "lanes": 1, "batch": 1}`, "now")
	outcomes := map[string]error{"a.retry": sinks.Retryable(errors.New("busy"), 0), "a.dead": sinks.Permanent(errors.New("no"))}
	sub.answer(func(d sinks.Delivery) error { return outcomes[d.Topic] })
	_, g := b.startWatched(looking)
	b.Publish("a.retry", "k", `{}`)
	b.Publish("a.ok", "k", `{}`) // held
	b.Publish("a.dead", "", `{}`)
	b.Exec("SELECT postrider.enqueue('a.ok', '{}', deliver_at => now() + interval '1 hour')")
	parked := func(state string) float64 { return g.only("parked_messages", "s", state) }
	eventually(t, "what is parked is told", func() bool {
		return parked(states.Retrying) == 1 && parked(states.Held) == 1 && parked(states.Dead) == 1 && parked(states.Scheduled) == 1 && parked(states.Leased) == 0
	})
	b.Exec("UPDATE postrider.parked SET created_at = created_at - interval '1 hour' WHERE state = 'dead'") // nobody waits for that one
	b.Exec("UPDATE postrider.parked SET created_at = created_at - interval '30 minutes' WHERE state = 'retrying'")
	eventually(t, "the oldest is told", func() bool { s := g.only("oldest_unsettled_seconds", "s"); return s >= 1800 && s < 3600 })
	if lag := g.only("lag_seconds", "s"); lag >= 1800 {
		t.Errorf("lag is %v s: what is parked is none", lag)
	}
	until := make(chan struct{})
	sub.hold(until)
	b.Publish("a.ok", "", `{}`)
	b.Exec("SELECT postrider.enqueue('a.ok', to_jsonb(g)) FROM generate_series(1, 20) g")
	b.Exec("UPDATE postrider.outbox SET created_at = created_at - interval '10 minutes' WHERE payload = '20'")
	eventually(t, "the lag is told", func() bool {
		s := g.only("lag_seconds", "s")
		return g.only("lag_messages", "s") == 21 && s >= 600 && s < 1800
	})
	if n := g.only("deliveries_in_flight", "s"); n != 1 {
		t.Errorf("%v deliveries are in flight, want 1", n)
	}
	if n := g.only("memory_used_bytes", "lanes"); n <= 0 {
		t.Errorf("lanes have %v bytes", n)
	}
	if held, filled := g.only("segments_held", "s"), g.only("segments", "filled"); held != 1 || filled != 1 {
		t.Errorf("%v segments are held, %v filled, want 1 of each", held, filled)
	}
	if bounded := g.sum("counts_bounded", "s"); bounded != 0 {
		t.Errorf("of so few, not all are counted: %v", bounded)
	}
	close(until)
	eventually(t, "the lag is gone", func() bool { return g.only("lag_messages", "s") == 0 && g.only("lag_seconds", "s") == 0 })
	until = make(chan struct{})
	sub.hold(until)
	b.Publish("a.ok", "", `{}`)
	eventually(t, "a delivery is under way", func() bool { return g.only("deliveries_in_flight", "s") == 1 })
	b.Exec("SELECT postrider.pause('s')")
	eventually(t, "it is paused, and that delivery still its relay's", func() bool {
		return g.only("subscription_paused", "s") == 1 && g.only("subscription_owned", "s") == 1 && g.only("deliveries_in_flight", "s") == 1
	})
	close(until)
}

// Series go along with a subscription that another relay delivers, and end with it: whatever is added up is right.
func TestMetricsMoveWithTheirSubscription(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		b.subscribe(name, "{>}", "{}", "now")
	}
	first, one := b.startWatched(named("first"), looking)
	all := func(g *gauges) (n int) {
		for _, name := range names {
			if g.wholly(name) {
				n++
			}
		}
		return n
	}
	b.Publish("t", "", `{}`)
	eventually(t, "the first relay tells of all", func() bool { return all(one) == 4 })
	second, two := b.startWatched(named("second"), looking)
	eventually(t, "each tells of half", func() bool {
		for _, name := range names {
			if !only(name, one, two)() && !only(name, two, one)() {
				return false
			}
		}
		return all(one) == 2 && all(two) == 2
	})
	if n := one.sum("subscription_owned", "") + two.sum("subscription_owned", ""); n != 4 {
		t.Errorf("%v are owned, of four", n)
	}
	first.stop()
	eventually(t, "the second relay tells of all, the other of none", func() bool { return all(two) == 4 && all(one)+len(one.series("a")) == 0 })
	b.Exec("SELECT postrider.unsubscribe('a'), postrider.subscribe('renamed', '{>}', 'record:', '{}', 'now')")
	eventually(t, "the new name is told", func() bool { return two.wholly("renamed") && len(two.series("a")) == 0 })
	second.stop()
	for _, name := range append(names, "renamed") {
		if n := len(two.series(name)); n != 0 {
			t.Errorf("%d metrics speak of %s, which nobody delivers", n, name)
		}
	}
}

// What no relay delivers, the eldest tells of, and after it the next: paused subscriptions, those that none can deliver, and those of workers in SQL.
func TestMetricsOfWhatNobodyDelivers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("paused", "{>}", "{}", "now")
	b.subscribe("works", "{>}", "{}", "now")
	b.Exec("SELECT postrider.subscribe('nobody', '{>}', 'strange:'), postrider.subscribe('workers', '{>}', 'sql:'), postrider.pause('paused')")
	tells := func(g *gauges) func() bool {
		return func() bool {
			owned := func(name string) bool {
				return g.series(name)["postrider_subscription_owned"] == 1 && g.series(name)[ofLooks] == 1
			}
			return owned("paused") && g.only("subscription_paused", "paused") == 1 && g.only("subscription_owned", "paused") == 0 &&
				owned("nobody") && g.only("subscription_paused", "nobody") == 0 && g.only("subscription_owned", "nobody") == 0 &&
				g.series("workers")[ofLooks] == 1 && g.series("workers")["postrider_subscription_paused"] == 1 && g.series("workers")["postrider_subscription_owned"] == 0 &&
				g.only("segments", "filled") >= 1
		}
	}
	b.Publish("t", "", `{}`)
	first, one := b.startWatched(named("first"), looking)
	eventually(t, "the first relay tells of all", func() bool {
		return tells(one)() && one.wholly("works") && one.only("subscription_owned", "works") == 1
	})
	_, two := b.startWatched(named("second"), looking)
	eventually(t, "the second has looked", func() bool { return two.only("status_look_seconds") > 0 })
	for _, name := range []string{"paused", "nobody", "workers"} {
		if n := len(two.series(name)); n != 0 {
			t.Errorf("%d metrics of the younger relay speak of %s", n, name)
		}
	}
	if two.has("segments") || two.has("table_bytes") || two.has("schedules_overdue") {
		t.Error("the younger relay tells of what is nobody's, too")
	}
	first.stop()
	eventually(t, "the second tells of them now", tells(two))
	b.Exec("SELECT postrider.resume('paused')")
	eventually(t, "it is resumed", func() bool {
		return two.only("subscription_paused", "paused") == 0 && two.only("subscription_owned", "paused") == 1
	})
	b.Exec("SELECT postrider.unsubscribe('workers')")
	eventually(t, "it is gone", func() bool { return len(two.series("workers")) == 0 })
}

// What workers took in SQL when somebody looked, and a relay delivers by now, is told of once: twice, and nothing would be told at all.
func TestMetricsOfAnotherDestination(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recorder("s")
	b.Exec("SELECT postrider.subscribe('s', '{>}', 'sql:')")
	_, g := b.startWatched(named("bad \xff name"), func(c *Config) { c.lookEvery = time.Hour })
	eventually(t, "a look has shown it", func() bool { return g.series("s")[ofLooks] == 1 })
	b.Exec("SELECT postrider.unsubscribe('s'), postrider.subscribe('s', '{>}', 'record:')")
	eventually(t, "a relay delivers it", func() bool { return g.only("subscription_owned", "s") == 1 })
	if s := g.series("s"); s["postrider_subscription_paused"] != 1 || s[ofLooks] != 0 {
		t.Errorf("it is told of as %v", s)
	}
}

// Nobody looks while nobody collects, or has for a while.
func TestMetricsAreLookedUpForThoseWhoCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{Servers: Servers{DatabaseURL: "postgres://nobody"}, Open: func(context.Context, subscription.Subscription) (sinks.Sink, error) { return nil, errScene }})
		mend(t, err)
		var looks atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			for r.collecting.await(ctx) {
				looks.Add(1)
				async.Sleep(ctx, lookEvery)
			}
		}()
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got := int(looks.Load()); got != want {
				t.Errorf("%d looks %s, want %d", got, when, want)
			}
		}
		time.Sleep(time.Hour)
		expect("for nobody", 0)
		r.measure()
		expect("for the first", 1)
		time.Sleep(time.Minute)
		expect("for a minute", 5)
		time.Sleep(time.Hour)
		expect("for as long as it takes to know that nobody comes", 1+int(lookWhile/lookEvery))
		r.measure()
		expect("for somebody who comes again", 2+int(lookWhile/lookEvery))
		stop()
	})
}

// What a look has shown goes away when no further one works, and its age tells.
func TestMetricsWithoutLooks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sub := b.subscribe("s", "{>}", "{}", "now")
	_, g := b.startWatched(looking)
	b.Publish("t", "", `{}`)
	eventually(t, "delivered", func() bool { return sub.count() == 1 })
	eventually(t, "its progress is saved", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == 1
	})
	eventually(t, "a look for the first who collects", func() bool { return g.wholly("s") })
	b.Exec(fmt.Sprintf("REVOKE SELECT ON postrider.subscription_status FROM %q", b.Role))
	eventually(t, "what was seen goes away", func() bool { return !g.has("lag_messages") && !g.has("segments") })
	before := g.only("status_age_seconds")
	eventually(t, "its age grows", func() bool { return g.only("status_age_seconds") > before && before > 0 })
	if n := g.logged("where subscriptions stand is not known"); n != 1 {
		t.Errorf("%d lines about it, want one", n)
	}
	if g.only("ready") != 1 || g.only("subscription_owned", "s") != 1 || g.only("destination_down", "s") != 0 {
		t.Error("what needs no look is not told any more")
	}
	b.Exec(fmt.Sprintf("GRANT SELECT ON postrider.subscription_status TO %q", b.Role))
	eventually(t, "it is back", func() bool { return g.wholly("s") })
}

// The stream is told of, and what it holds back.
func TestMetricsOfTheStream(t *testing.T) {
	t.Parallel()
	b := benchAt(t, privateServer(t, nil))
	_, g := b.startWatched(looking)
	mode := func(is string) func() bool {
		return func() bool { return g.only("feed_mode", is) == 1 && g.sum("feed_mode", "") == 1 }
	}
	eventually(t, "nobody waits for messages", mode("idle"))
	b.subscribe("s", "{>}", "{}", "now")
	eventually(t, "the stream is followed", mode("stream"))
	old := b.DB.Conn(t)
	if _, err := old.Exec(t.Context(), "BEGIN; CREATE TABLE filler AS SELECT 'old' AS x"); err != nil {
		t.Fatal(err)
	}
	b.Exec("CREATE TABLE other AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
	eventually(t, "the old transaction makes the slot hold WAL back", func() bool { return g.only("slot_wal_bytes") > 2<<20 })
	if _, err := old.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	b.Exec("SELECT postrider.unsubscribe('s')")
	eventually(t, "without a slot, none is held", func() bool { return mode("idle")() && g.only("slot_wal_bytes") == 0 })
}

// Schedules of which runs were missed are counted, and those that cannot be fired are shown.
func TestMetricsOfSchedules(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec(`SELECT postrider.put_schedule('late', '0 0 1 1 *', 't', missed => 'skip'), postrider.put_schedule('never', '0 0 1 1 *', 't')`)
	b.Exec(`UPDATE postrider.schedules SET cron = 'rubbish' WHERE name = 'never'`)
	b.Exec(`UPDATE postrider.schedules SET next_run = now() - interval '1 hour', due = now() - interval '1 hour' WHERE name = 'late'`)
	_, g := b.startWatched(looking)
	eventually(t, "a missed one is counted, one in trouble shown", func() bool { return g.sum("schedule_misses_total", "") == 1 && g.only("schedules_in_trouble") == 1 })
	eventually(t, "none is overdue", func() bool { return g.only("schedules_overdue") == 0 })
}

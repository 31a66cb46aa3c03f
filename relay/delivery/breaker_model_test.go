package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// destination is a model of one: some messages never get through it, and for a while nothing does.
type destination struct {
	bad       map[int64]bool
	kind      sinks.Kind // of what it says to bad ones
	wholesale bool       // it refuses batches as a whole
	after     time.Duration
	downFrom  time.Time
	downUntil time.Time
	now       func() time.Time
	sends     bool // its deliveries end one by one
	limits    subscription.Limits
	got       map[int64]time.Time
}

func (d *destination) says(batch []*task, outcomes []error) {
	down := !d.now().Before(d.downFrom) && d.now().Before(d.downUntil)
	spoilt := d.wholesale && slices.ContainsFunc(batch, func(t *task) bool { return d.bad[t.ident().ID] })
	for i, t := range batch {
		switch {
		case down && d.kind == sinks.KindRetryable:
			outcomes[i] = sinks.Retryable(errSim, 0)
		case down:
			outcomes[i] = &sinks.OutcomeError{Kind: d.kind, After: d.after, Err: errSim}
		case d.bad[t.ident().ID] || spoilt:
			outcomes[i] = &sinks.OutcomeError{Kind: d.kind, Err: errSim}
		default:
			outcomes[i] = nil
			d.got[t.ident().ID] = d.now()
		}
	}
}

// trial is a subscription that delivers to a destination, by the clock of the model.
type trial struct {
	*simulation
	x    *simRunner
	dest *destination
	most int // messages parked at once
}

// The settings that trials draw from; failures take a few seconds to become dead letters.
var trialSettings = func() (all []subscription.Settings) {
	for _, ordering := range []subscription.Ordering{subscription.OrderByKey, subscription.OrderNone, subscription.OrderStrict} {
		for _, lanes := range [][2]int{{1, 1}, {1, 8}, {4, 1}, {4, 16}, {16, 1}} {
			if ordering == subscription.OrderStrict && lanes != [2]int{1, 1} {
				continue
			}
			all = append(all, subscription.Settings{Ordering: ordering, OnDead: subscription.DeadSkips, MaxAttempts: 3, Lanes: lanes[0], Batch: lanes[1],
				MaxParked: 100_000, MaxScheduled: 100_000, BackoffInitial: subscription.Duration(time.Second), BackoffMax: subscription.Duration(10 * time.Second)})
		}
	}
	return all
}()

// Limits that leave enough for a destination that works.
var trialLimits = []subscription.Limits{{}, {}, {Limit: subscription.Limit{InFlight: 2}}, {Limit: subscription.Limit{Rate: subscription.Rate{Count: 100, Per: time.Second}}}}

func newTrial(settings subscription.Settings, dest *destination) *trial {
	s := newSimulation(simOp{c: 255}, nil)
	s.subs = s.subs[:1]
	s.newFeed(0) // with plenty of memory
	s.setup.c = 0
	s.newFeed(0)
	x := s.subs[0]
	x.sub.Settings, x.filter, x.says = settings, simFilters[0], dest.says
	x.sends = dest.sends
	x.sub.Settings.Limits = dest.limits
	x.drop()
	x.stored = simCursors{0: {}}
	x.begun = snapshot.Snapshot{}
	dest.now = func() time.Time { return s.server.now }
	dest.got = make(map[int64]time.Time)
	for len(s.server.running) > 0 {
		s.server.end(s.server.running[0])
	}
	x.takeOver(s.feeds[0])
	return &trial{simulation: s, x: x, dest: dest}
}

// publish commits messages with the keys; it returns their ids.
func (t *trial) publish(keys ...string) (ids []int64) {
	tx := t.server.begin()
	for _, key := range keys {
		ids = append(ids, t.server.nextID)
		t.server.insert(tx, simTopics[0], key, time.Time{})
	}
	t.server.write(tx)
	t.server.show(tx)
	return ids
}

// run lets time pass until the condition holds; false if it does not within the limit.
func (t *trial) run(limit time.Duration, done func() bool) bool {
	end := t.server.now.Add(limit)
	for !done() {
		if t.server.now.After(end) {
			return false
		}
		acted := false
		t.x.feed.tick()
		for stepped := true; stepped; {
			stepped = t.x.step()
			other := t.x.readPage(500) || t.x.load() || t.x.answer(0, 0)
			stepped, acted = stepped || other, acted || other
			t.server.now = t.server.now.Add(time.Microsecond)
		}
		for t.x.saveSome(false, false) && t.x.save != nil { // there may be another one to make at once: each is a transaction
		}
		n := 0
		for _, p := range t.x.parked {
			if p.state == states.Retrying || p.state == states.Held {
				n++
			}
		}
		t.most = max(t.most, n)
		if !acted { // until the runner wants to look again
			t.server.now = t.server.now.Add(min(max(t.x.lookAt.Sub(t.server.now), 10*time.Millisecond), 2*time.Second))
		}
	}
	return true
}

func (t *trial) delivered(ids []int64) func() bool {
	return func() bool {
		return !slices.ContainsFunc(ids, func(id int64) bool { return t.dest.got[id].IsZero() })
	}
}

func (t *trial) dead(ids []int64) func() bool {
	return func() bool {
		return !slices.ContainsFunc(ids, func(id int64) bool { return t.x.parked[id] == nil || t.x.parked[id].state != states.Dead })
	}
}

func (t *trial) report(ids []int64) string {
	missing := slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return !t.dest.got[id].IsZero() })
	states := map[string]int{}
	for _, p := range t.x.parked {
		states[p.state]++
	}
	return fmt.Sprintf("%d of %d good messages have not arrived, parked are %v, breaker %+v", len(missing), len(ids), states, t.x.r.breaker)
}

// Bad messages among good ones, in any number, at any place, whatever is said to them: good ones pass soon, bad ones end as dead.
func TestBadMessagesAmongGoodOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		settings := rapid.SampledFrom(trialSettings).Draw(t, "settings")
		dest := &destination{bad: make(map[int64]bool), kind: rapid.SampledFrom([]sinks.Kind{sinks.KindRetryable, sinks.KindUnavailable, sinks.KindMisconfigured}).Draw(t, "kind"),
			wholesale: rapid.Bool().Draw(t, "batches are refused as a whole"), sends: rapid.Bool().Draw(t, "one by one"), limits: rapid.SampledFrom(trialLimits).Draw(t, "limits")}
		x := newTrial(settings, dest)
		n := rapid.IntRange(1, 150).Draw(t, "messages")
		if settings.Ordering == subscription.OrderStrict {
			n = min(n, 15)
		}
		share := rapid.IntRange(0, 99).Draw(t, "percent of bad ones")
		first := rapid.Bool().Draw(t, "the bad ones first")
		keyed := rapid.Bool().Draw(t, "keys")
		var keys []string
		var bads []bool
		for i := range n {
			key := ""
			if keyed {
				key = fmt.Sprintf("k%d", rapid.IntRange(0, n).Draw(t, "key"))
			}
			bads = append(bads, first && i < n*share/100 || !first && rapid.IntRange(0, 99).Draw(t, "bad") < share)
			keys = append(keys, key)
		}
		keys, bads = append(keys, "good"), append(bads, false) // one at least works
		var good, bad []int64
		for i, id := range x.publish(keys...) {
			if bads[i] {
				dest.bad[id] = true
				bad = append(bad, id)
			} else {
				good = append(good, id)
			}
		}
		limit := time.Minute
		if keyed || settings.Ordering == subscription.OrderStrict {
			limit = 15 * time.Minute // good ones wait until bad ones before them, one by one, have had all their attempts
		}
		if !x.run(limit, x.delivered(good)) {
			t.Fatalf("after %s: %s", limit, x.report(good))
		}
		if x.run(time.Minute, x.dead(bad)) {
			return
		}
		// Many bad ones that nothing follows look like an outage, until something does.
		for range 3 {
			more := x.publish("more")
			if !x.run(time.Minute, x.delivered(more)) {
				t.Fatalf("a good message that comes later does not arrive in a minute: %s", x.report(more))
			}
		}
		if !x.run(2*limit, x.dead(bad)) {
			t.Fatalf("%s after that bad messages are not dead: %s", 2*limit, x.report(good))
		}
	})
}

// An outage, be it long: next to nothing is parked, nothing dies, and all arrives soon after it.
func TestOutageOfAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		settings := rapid.SampledFrom(trialSettings).Draw(t, "settings")
		settings.MaxAttempts = 100_000
		dest := &destination{kind: rapid.SampledFrom([]sinks.Kind{sinks.KindRetryable, sinks.KindUnavailable, sinks.KindMisconfigured}).Draw(t, "kind"),
			wholesale: rapid.Bool().Draw(t, "batches are refused as a whole"), sends: rapid.Bool().Draw(t, "one by one"), limits: rapid.SampledFrom(trialLimits).Draw(t, "limits")}
		x := newTrial(settings, dest)
		var keys []string
		for range rapid.IntRange(1, 150).Draw(t, "messages") {
			keys = append(keys, rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(t, "key"))
		}
		before := x.publish("before")
		if !x.run(time.Minute, x.delivered(before)) {
			t.Fatal("nothing arrives")
		}
		lasts := time.Duration(rapid.SampledFrom([]int{1, 8, 20, 60, 300, 900}).Draw(t, "seconds")) * time.Second
		dest.downFrom = x.server.now
		dest.downUntil = x.server.now.Add(lasts)
		ids := x.publish(keys...)
		x.run(lasts, func() bool { return false })
		// Those that are first of their keys, and a handful.
		most := 0
		if lasts >= 10*time.Second {
			most = exploreFew + exploreFirst
		}
		if len(ids) <= exploreFew || settings.Ordering == subscription.OrderStrict {
			most = len(ids)
		}
		if dest.kind == sinks.KindRetryable { // until it counts as down, these are the messages' own failures
			most += TripAfter + heldUnprovenMost
		}
		if x.most > most {
			t.Fatalf("in an outage of %s %d messages were parked, at most %d should be: %s", lasts, x.most, most, x.report(ids))
		}
		if !x.run(2*time.Minute, x.delivered(ids)) {
			t.Fatalf("2 minutes after an outage of %s: %s", lasts, x.report(ids))
		}
	})
}

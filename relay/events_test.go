package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// event is what a message says that tells of events.
type event struct {
	Event, Subscription, Reason string
	Count                       int
}

// events are the messages that the actor has accepted, as what they tell.
func (a *actor) events(t *testing.T) (list []event) {
	t.Helper()
	for _, text := range a.payloads() {
		var e event
		mend(t, json.Unmarshal([]byte(text), &e))
		list = append(list, e)
	}
	return list
}

// counts adds up what was told, by event and subscription.
func counts(list []event) map[string]int {
	sums := make(map[string]int)
	for _, e := range list {
		sums[e.Event+" "+e.Subscription] += e.Count
	}
	return sums
}

// hurry lets what is like something that was told a moment ago be told at the relay's next turn.
func (b *bench) hurry() {
	b.Exec("UPDATE postrider.events_told SET told_at = now() - interval '1 hour'")
}

// Dead letters of relays are told to who names them, in a few messages whose counts add up, and to nobody else; what they themselves become
// when nobody can take them is told to nobody.
func TestDeadLettersAreTold(t *testing.T) {
	s := newScene(t)
	refusing := func(context.Context, sinks.Delivery) error { return sinks.Permanent(errors.New("no such customer")) }
	bad, all, alerts, deaf := s.cast("bad", "{a.>}", "{}"), s.cast("all", "{>,*.>}", "{}"), s.cast("alerts", "{$postrider.dead.>}", "{}"), s.cast("deaf", "{$postrider.dead.bad}", "{}")
	bad.plays(refusing)
	deaf.plays(refusing)
	s.play()
	first := s.Publish("a.b", "k", "1")
	eventually(t, "it is told", func() bool { return len(alerts.events(t)) == 1 })
	if got := alerts.events(t)[0]; got != (event{"dead", "bad", "no such customer", 1}) {
		t.Errorf("told: %+v", got)
	}
	const many = 5000
	ids := s.bulk("a.b", many, 100)
	eventually(t, "all are told", func() bool {
		s.hurry()
		return counts(alerts.events(t))["dead bad"] >= many+1
	})
	eventually(t, "the deaf one has its own dead letters", func() bool { return s.parkedIn("deaf", "dead") == alerts.count() })
	all.got(t, append(first, ids...))
	if got := counts(alerts.events(t)); len(got) != 1 || got["dead bad"] != many+1 {
		t.Errorf("told: %v", got)
	}
	if n := alerts.count(); n > many/100 {
		t.Errorf("%d messages tell of %d dead letters", n, many)
	}
	for _, d := range all.deliveries() {
		if d.Topic[0] == '$' {
			t.Fatalf("> matches %s", d.Topic)
		}
	}
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.events"); n != 0 {
		t.Errorf("%d events wait for ever", n)
	}
}

// What was saved and not told yet when the server crashes is told after that, once.
func TestEventsSurviveACrash(t *testing.T) {
	t.Parallel()
	server := privateServer(t, nil)
	b := benchAt(t, server)
	bad, alerts := b.subscribe("bad", "{a}", "{}", "now"), b.subscribe("alerts", "{$postrider.>}", "{}", "now")
	bad.answer(func(sinks.Delivery) error { return sinks.Permanent(errors.New("no")) })
	told := func() int { // as the log has it: an event may be delivered again after a crash
		return scalar[int](b, `SELECT coalesce(sum((payload ->> 'count')::int), 0) FROM postrider.outbox WHERE topic = '$postrider.dead.bad'`)
	}
	// Whoever tells locks this. The crash ends it.
	holder, err := b.Admin.Begin(t.Context())
	mend(t, err)
	if _, err := holder.Exec(t.Context(), "LOCK TABLE postrider.events_told IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	_, g := b.startWatched()
	const n = 50
	for i := range n {
		b.Publish("a", "", fmt.Sprint(i))
	}
	eventually(t, "all is written and nothing told", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.events") == n })
	mend(t, server.Restart(t.Context(), "immediate"))
	if err := holder.Commit(t.Context()); err == nil {
		t.Fatal("the crash did not end a session")
	}
	b.Admin.Reset()
	b.App.Reset()
	eventually(t, "the relay goes on", func() bool { return g.logged("registration is gone") == 1 })
	eventually(t, "all is told", func() bool { return told() >= n })
	b.Publish("a", "", "1")
	eventually(t, "what came after it is told", func() bool {
		b.hurry()
		return told() >= n+1
	})
	if got := told(); got != n+1 {
		t.Errorf("told: %d", got)
	}
	eventually(t, "it arrives", func() bool {
		all := scalar[int](b, "SELECT count(*) FROM postrider.outbox WHERE event")
		return alerts.distinct() == all
	})
}

// Each pause and each resumption is told, and when a destination goes down and is back: by the save that says so, once for all classes, and not
// because a relay stops or starts meanwhile.
func TestStatesAreTold(t *testing.T) {
	s := newScene(t)
	alerts, plain := s.cast("alerts", "{$postrider.>}", "{}"), s.cast("sub", "{a}", `{"priorities": true}`)
	var on atomic.Bool
	plain.plays(down(&on, sinks.Unavailable(errors.New("connection refused"), 0)))
	told := func(what string, want ...event) {
		t.Helper()
		eventually(t, what, func() bool {
			s.hurry()
			return len(alerts.events(t)) >= len(want)
		})
		if got := alerts.events(t); !slices.Equal(got, want) {
			t.Fatalf("%s: told %+v, want %+v", what, got, want)
		}
	}
	goes := event{"down", "sub", "connection refused", 1}
	comes := event{"up", "sub", "", 1}
	r := s.play()
	plain.got(t, s.Publish("a", "", "1"))
	on.Store(true)
	ids := s.Publish("a", "", "2", "3")
	told("it goes down", goes)
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.cursors WHERE subscription = 'sub' AND down"); n != 1 {
		t.Errorf("%d cursors have it, want one for all", n)
	}
	r.stop()
	r = s.play()
	eventually(t, "the next relay finds it down", func() bool {
		return scalar[int](s.bench, "SELECT count(*) FROM postrider.cursors WHERE subscription = 'sub' AND trouble LIKE 'destination is down%'") > 0
	})
	r.stop()
	on.Store(false)
	s.play()
	plain.got(t, ids)
	told("it is back", goes, comes)
	s.Exec("SELECT postrider.pause('sub', 'for a while')")
	s.Exec("UPDATE postrider.subscriptions SET paused_reason = 'for a longer while' WHERE name = 'sub'")
	paused := event{"paused", "sub", "for a while", 1}
	told("it is paused", goes, comes, paused)
	s.Exec("SELECT postrider.resume('sub')")
	told("it is resumed", goes, comes, paused, event{"resumed", "sub", "", 1})
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.events"); n != 0 {
		t.Errorf("%d events more", n)
	}
}

// A destination that asks for no more pauses its subscription, which is told with its reason.
func TestPausesOfRelaysAreTold(t *testing.T) {
	s := newScene(t)
	alerts, gone := s.cast("alerts", "{$postrider.paused.>}", "{}"), s.cast("sub", "{a}", "{}")
	gone.plays(func(context.Context, sinks.Delivery) error { return sinks.Gone(errors.New("status 410")) })
	s.play()
	s.Publish("a", "", "1")
	eventually(t, "it is told", func() bool { return alerts.count() == 1 })
	if got := alerts.events(t)[0]; got.Event != "paused" || got.Subscription != "sub" || got.Count != 1 || !strings.Contains(got.Reason, "status 410") {
		t.Errorf("told: %+v", got)
	}
}

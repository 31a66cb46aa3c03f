package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

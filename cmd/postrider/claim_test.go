package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// sidecarOf is the environment of one that has a database, a destination and topics, and no name for its subscription.
func sidecarOf(db *pgtest.DB, sink string, more ...string) []string {
	return append([]string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_TOPICS=>", "POSTRIDER_SINK=" + sink, "POSTRIDER_FOLLOW=timer"}, more...)
}

func (p *process) stopWell() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		text, _ := p.out.read()
		p.t.Errorf("status %d:\n%s", status, text)
	}
}

func sinkOf(t *testing.T, db *pgtest.DB) (sink string) {
	t.Helper()
	if err := db.Conn(t).QueryRow(t.Context(), "SELECT sink FROM postrider.subscriptions WHERE name = 'default'").Scan(&sink); err != nil {
		t.Fatal(err)
	}
	return sink
}

// A second sidecar that leads elsewhere does not take the first one's subscription: it asks for a name.
func TestSecondSidecarNeedsAName(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const first, second = "https://u:geheim@one.example/hook?token=geheim", "https://two.example/hook"
	a := start(t, sidecarOf(db, first, "POSTRIDER_NAME=one")...)
	a.waitFor("msg=delivering subscription=default")
	b := start(t, sidecarOf(db, second, "POSTRIDER_NAME=two")...)
	if status := b.ends(); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	b.waitFor(`postrider: subscription "default" leads to https://xxxxx@one.example/hook\?token=xxxxx for relay one \([0-9a-f]{8}\), which runs now, ` +
		`and POSTRIDER_SINK here is https://two.example/hook. .*a name of its own with POSTRIDER_SUBSCRIPTION; .*set POSTRIDER_SUBSCRIPTION=default`)
	if sink := sinkOf(t, db); sink != first {
		t.Errorf("the subscription leads to %s", sink)
	}
	// The same destination is no reason: replicas of one sidecar, with another password or other topics on their way.
	again := start(t, sidecarOf(db, strings.ReplaceAll(first, "geheim", "anders"), "POSTRIDER_TOPICS=orders.>")...)
	again.waitFor(`level=WARN msg="subscription changed: topics, sink".*differences=`)
	again.waitFor("msg=relaying")
	// Who prunes is told which relay makes it again.
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions), "--prune").
		fails("would remove what is not named: default (with its cursor; relay one, which runs, was started with it")
	// Nor is a name of its own.
	b = start(t, sidecarOf(db, second, "POSTRIDER_SUBSCRIPTION=two")...)
	b.waitFor("msg=relaying")
	for _, p := range []*process{a, again, b} {
		if text, _ := p.out.read(); strings.Contains(text, "geheim") || strings.Contains(text, "anders") {
			t.Errorf("a secret in the log:\n%s", text)
		}
	}
}

// Two that begin at the same moment do not take it from each other either.
func TestSidecarsThatBeginTogether(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a, b := start(t, sidecarOf(db, "https://one.example/hook")...), start(t, sidecarOf(db, "https://two.example/hook")...)
	var loser *process
	select {
	case <-a.done:
		loser = a
	case <-b.done:
		loser = b
	case <-time.After(patience):
		t.Fatal("both run, and one took the subscription from the other")
	}
	loser.waitFor("a name of its own with POSTRIDER_SUBSCRIPTION")
	winner := map[*process]string{b: "https://one.example/hook", a: "https://two.example/hook"}[loser]
	if sink := sinkOf(t, db); sink != winner {
		t.Errorf("the subscription leads to %s, and the relay to %s is the one that runs", sink, winner)
	}
}

// A sidecar that is stopped, or killed, and started with another destination takes its subscription along; one that is replaced while
// it runs says that it means it. Both are told of each other then.
func TestSidecarChangesItsMind(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	a := start(t, sidecarOf(db, "https://one.example/hook")...)
	a.waitFor("msg=delivering")
	a.stopWell()
	a = start(t, sidecarOf(db, "https://two.example/hook")...)
	a.waitFor(`level=WARN msg="subscription changed: sink" .*https://one.example/hook.*https://two.example/hook`)
	a.waitFor("msg=delivering")
	a.signal(syscall.SIGKILL)
	a.ends()
	a = start(t, sidecarOf(db, "https://three.example/hook", "POSTRIDER_NAME=old")...)
	a.waitFor("msg=relaying")
	a.waitFor("incarnation=")
	b := start(t, sidecarOf(db, "https://four.example/hook", "POSTRIDER_NAME=new", "POSTRIDER_SUBSCRIPTION=default")...)
	b.waitFor("msg=relaying")
	for _, p := range []*process{a, b} {
		p.waitFor(`level=WARN msg="another relay was started with something else for a subscription of this one.*subscription=default`)
	}
	on(t, db.URL(), "status").ok("contested by relays old (to https://three.example/hook), new (to https://four.example/hook)")
	on(t, db.URL(), "doctor").has(`warn relays subscription "default": contested by relays`, "→ set another POSTRIDER_SUBSCRIPTION for one of them")
	if sink := sinkOf(t, db); sink != "https://four.example/hook" {
		t.Errorf("the subscription leads to %s", sink)
	}
	a.stopWell()
	if r := on(t, db.URL(), "status").ok(); strings.Contains(r.out, "contested") {
		t.Errorf("the one that was stopped is still told of:\n%s", r.out)
	}
}

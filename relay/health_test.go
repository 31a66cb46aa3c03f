package relay

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/sinks"
)

// impatient makes what fails count after a fraction of a second.
func impatient(c *Config) { c.moment = 300 * time.Millisecond }

// saysWhy waits until the relay is not ready for a reason with these words, and the subscription's trouble has them too, if it can be
// saved.
func (b *bench) saysWhy(r *running, sub string, saved bool, words ...string) {
	b.t.Helper()
	hasAll := func(text string) bool {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	}
	eventually(b.t, fmt.Sprintf("the relay is not ready because of %q and %q", sub, words), func() bool {
		err := r.Ready()
		return err != nil && hasAll(err.Error()) && strings.Contains(err.Error(), sub)
	})
	if saved {
		eventually(b.t, fmt.Sprintf("the trouble has %q", words), func() bool {
			return hasAll(scalar[string](b, "SELECT coalesce(trouble, '') FROM postrider.cursors WHERE subscription = $1", sub))
		})
	}
}

func (b *bench) fine(r *running) {
	b.t.Helper()
	eventually(b.t, "the relay is ready", func() bool { return r.Ready() == nil })
	eventually(b.t, "no trouble is shown", func() bool {
		return scalar[bool](b, "SELECT coalesce(bool_and(trouble IS NULL), true) FROM postrider.cursors")
	})
}

// A subscription that stands still for a reason that is not its destination's makes the relay not ready, and it says which and why.
func TestReadiness(t *testing.T) {
	t.Run("the outbox cannot be read", func(t *testing.T) {
		b := newBench(t)
		sub := b.subscribe("orders", "{>}", "{}", "now")
		r := b.start(impatient, func(c *Config) { c.Follow = FollowTimer })
		ids := b.Publish("a", "", `1`)
		sub.arrives(t, ids)
		b.Exec("ALTER TABLE postrider.outbox RENAME TO hidden")
		ids = append(ids, scalar[int64](b, "INSERT INTO postrider.hidden (topic, payload) VALUES ('a', '2') RETURNING id"))
		b.saysWhy(r, "orders", true, health.CannotReadPage, "postrider.outbox") // the feed has given the window up by then
		b.Exec("ALTER TABLE postrider.hidden RENAME TO outbox")
		sub.arrives(t, append(ids, b.Publish("a", "", `3`)...))
		b.fine(r)
	})
	t.Run("parked messages cannot be read", func(t *testing.T) {
		b := newBench(t)
		sub := b.subscribe("orders", "{>}", `{"backoff_initial":"400ms","backoff_max":"400ms"}`, "now")
		failing := true
		sub.answer(func(sinks.Delivery) error {
			if failing {
				return sinks.Retryable(errors.New("not now"), 0)
			}
			return nil
		})
		r := b.start(impatient)
		ids := b.Publish("a", "", `1`)
		eventually(t, "it is parked", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked") == 1 })
		b.Exec("ALTER TABLE postrider.parked RENAME TO hidden")
		b.saysWhy(r, "orders", false, health.CannotLoad, "postrider.parked")
		sub.answer(nil)
		b.Exec("ALTER TABLE postrider.hidden RENAME TO parked")
		sub.arrives(t, ids)
		b.fine(r)
	})
	t.Run("deliveries cannot start", func(t *testing.T) {
		b := newBench(t)
		sub := b.subscribe("orders", "{>}", "{}", "now")
		b.Exec("ALTER TABLE postrider.parked RENAME TO hidden")
		r := b.start(impatient)
		b.saysWhy(r, "orders", true, health.CannotStart, "postrider.parked")
		b.Exec("ALTER TABLE postrider.hidden RENAME TO parked")
		sub.arrives(t, b.Publish("a", "", `1`))
		b.fine(r)
	})
	t.Run("subscriptions cannot be read", func(t *testing.T) {
		b := newBench(t)
		r := b.start(impatient)
		eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
		b.Exec("ALTER TABLE postrider.cursors RENAME TO hidden")
		b.saysWhy(r, "", false, health.CannotPoll, "postrider.cursors")
		b.Exec("ALTER TABLE postrider.hidden RENAME TO cursors")
		b.fine(r)
	})
}

// A callback look-up that fails is trouble as well.
func TestReadinessOfCallbacks(t *testing.T) {
	b := newBench(t)
	sub := b.subscribe("jobs", "{>}", "{}", "now")
	sub.answer(func(sinks.Delivery) error { return sinks.Leased(time.Hour, 7) })
	r := b.start(impatient)
	ids := b.Publish("a", "", `1`)
	eventually(t, "it waits for a callback", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'leased'") == 1
	})
	b.Exec("ALTER TABLE postrider.parked RENAME TO hidden")
	b.saysWhy(r, "jobs", false, health.CannotCallBack, "postrider.parked")
	b.Exec("ALTER TABLE postrider.hidden RENAME TO parked")
	b.fine(r)
	if !scalar[bool](b, "SELECT postrider.complete('jobs', $1, 7)", ids[0]) {
		t.Error("the callback was refused")
	}
	eventually(t, "it is delivered", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked") == 0 })
}

// A cursor that cannot be saved is that subscription's trouble: others are saved, and it is when it can be.
func TestOneCursorThatCannotBeSaved(t *testing.T) {
	b := newBench(t)
	bad, good := b.subscribe("bad", "{bad}", `{"backoff_initial":"1h","backoff_max":"1h"}`, "now"), b.subscribe("good", "{good}", "{}", "now")
	bad.answer(func(sinks.Delivery) error { return sinks.Retryable(errors.New("not now"), 0) })
	b.Exec("ALTER TABLE postrider.parked ADD CONSTRAINT only_good CHECK (topic <> 'bad')")
	r := b.start(impatient)
	b.Publish("bad", "k", `1`)
	b.saysWhy(r, "bad", false, health.CannotSave, "only_good")
	ids := b.Publish("good", "", `1`, `2`)
	good.arrives(t, ids)
	eventually(t, "the other cursor is saved", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE subscription = 'good' AND status = 'delivered'") == 2
	})
	b.Exec("ALTER TABLE postrider.parked DROP CONSTRAINT only_good")
	eventually(t, "it is parked", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'retrying'") == 1
	})
	b.fine(r)
}

// A database that is away for a while is a handful of lines: one says that it is gone and why, one that it is back.
func TestOutageIsAHandfulOfLines(t *testing.T) {
	server := privateServer(t, nil)
	b := benchAt(t, server)
	subs := []*actor{b.subscribe("one", "{>}", "{}", "now"), b.subscribe("two", "{>}", "{}", "now"), b.subscribe("three", "{nothing}", "{}", "now")}
	r, g := b.startWatched(impatient)
	g.follows(1)
	ids := b.Publish("a", "", `1`)
	subs[0].arrives(t, ids)
	before := g.lines1()
	if err := syscall.Kill(server.Pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the outage is told", func() bool { return g.logged("the database cannot be used; waiting for it") == 1 })
	eventually(t, "readiness tells it", func() bool {
		err := r.Ready()
		return err != nil && strings.Contains(err.Error(), "the database cannot be used") && strings.Contains(err.Error(), "connection refused")
	})
	eventually(t, "it has been tried often", func() bool { return g.logged("level=DEBUG") > 20 })
	if err := server.Restart(t.Context(), "fast"); err != nil { // it starts again
		t.Fatal(err)
	}
	eventually(t, "its end is told", func() bool { return g.logged("the database is back") == 1 })
	b.Admin.Reset()
	b.App.Reset()
	subs[0].arrives(t, append(ids, b.Publish("a", "", `2`)...))
	g.follows(2)
	told := g.lines1()[len(before):]
	if len(told) > 6 {
		t.Errorf("%d lines for one outage:\n%s", len(told), strings.Join(told, "\n"))
	}
	if !strings.Contains(told[0], "waiting for it") || !strings.Contains(told[0], "connection refused") && !strings.Contains(told[0], "57P01") {
		t.Errorf("the first line is %s", told[0])
	}
	b.fine(r)
}

// lines1 returns what is logged at info and above.
func (g *gauges) lines1() (lines []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.lines {
		if !strings.Contains(line, "level=DEBUG") {
			lines = append(lines, line)
		}
	}
	return lines
}

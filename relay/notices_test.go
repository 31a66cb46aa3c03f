package relay

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/sinks"
)

// journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// into makes a relay log to the journal.
func (j *journal) into(c *Config) { c.Logger = slog.New(slog.NewTextHandler(j, nil)) }

// lines returns those that hold all words.
func (j *journal) lines(words ...string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		if all := func() bool {
			for _, w := range words {
				if !strings.Contains(line, w) {
					return false
				}
			}
			return true
		}(); all {
			found = append(found, line)
		}
	}
	return found
}

// says waits for a line that holds all words.
func (j *journal) says(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a line with %q in the log", words), func() bool { return len(j.lines(words...)) > 0 })
}

// once wants exactly one such line.
func (j *journal) once(t *testing.T, words ...string) {
	t.Helper()
	if n := j.lines(words...); len(n) != 1 {
		t.Errorf("%d lines with %q, want one:\n%s", len(n), words, strings.Join(j.lines(), ""))
	}
}

// The first dead letter is told at once, those after it together, with the commonest reason, and none twice.
func TestDeadLettersAreLogged(t *testing.T) {
	t.Parallel()
	b, log := newBench(t), &journal{}
	sub := b.subscribe("s", "{>}", "{}", "now")
	sub.answer(func(d sinks.Delivery) error {
		switch {
		case d.Topic == "good":
			return nil
		case d.Topic == "rare":
			return sinks.Permanent(errors.New("out of paper"))
		}
		return sinks.Permanent(errors.New("no such customer"))
	})
	run, begun := b.start(log.into), time.Now()
	ids := b.Publish("bad", "", `{}`)
	log.says(t, "level=WARN", `msg="dead letter"`, "subscription=s", fmt.Sprintf("id=%d", ids[0]), `because="no such customer"`)
	b.Publish("rare", "", `{}`)
	for range 40 {
		b.Publish("bad", "", `{}`)
	}
	eventually(t, "42 dead letters", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 42 })
	run.stop()
	told, lines := 0, log.lines(`msg="dead letter`)
	for _, line := range lines {
		n := 1
		if _, count, ok := strings.Cut(line, "count="); ok {
			if _, err := fmt.Sscan(count, &n); err != nil {
				t.Error(err)
			}
		}
		told += n
	}
	if most := 2 + int(time.Since(begun)/delivery.NoticeEvery); told != 42 || len(lines) > most {
		t.Errorf("%d dead letters are told in %d lines, want 42 in at most %d:\n%s", told, len(lines), most, strings.Join(lines, ""))
	}
	log.says(t, "subscription=s", `mostly_because="no such customer"`, "of_these=")
	again := &journal{}
	run = b.start(again.into)
	b.Publish("good", "", `{}`)
	eventually(t, "a delivery after the restart", func() bool { return sub.count() == 1 })
	run.stop()
	if told := again.lines("dead letter"); told != nil {
		t.Errorf("a restart tells of old ones again: %s", told)
	}
}

// What a command does is told by the relay that delivers, once, and so is what undoes it.
func TestCommandsAreLogged(t *testing.T) {
	t.Parallel()
	b, log, other := newBench(t), &journal{}, &journal{}
	sub := b.subscribe("s", "{>}", "{}", "now")
	sub.answer(func(d sinks.Delivery) error {
		if d.Topic == "bad" {
			return sinks.Permanent(errors.New("no such customer"))
		}
		return nil
	})
	b.start(log.into)
	log.says(t, "msg=delivering", "subscription=s")
	delivering := 1
	again := func() { // the runner is back
		t.Helper()
		delivering++
		eventually(t, "deliveries again", func() bool { return len(log.lines("msg=delivering")) == delivering })
	}
	b.Exec("SELECT postrider.pause('s', 'the month is closed')")
	log.says(t, "level=WARN", `msg="subscription paused by a command"`, "subscription=s", `because="the month is closed"`)
	eventually(t, "the cursor to be released", func() bool { return scalar[bool](b, "SELECT owner IS NULL FROM postrider.cursors") })
	b.Exec("SELECT postrider.resume('s')")
	log.says(t, "level=INFO", `msg="subscription resumed"`, "subscription=s")
	again()
	b.Exec("SELECT postrider.subscribe('s', '{>}', 'record:', '{\"lanes\": 2}')")
	again()
	log.once(t, `msg="subscription changed"`, "fields=[settings]")
	b.Exec("SELECT postrider.subscribe('s', '{a,bad}', 'record:elsewhere', '{\"lanes\": 2}')")
	again()
	log.once(t, `msg="subscription changed"`, `fields="[topics sink]"`)
	b.Exec("SELECT postrider.replay('s', 'earliest')")
	again()
	log.once(t, `msg="subscription replayed: its cursor was set by a command"`)
	b.Publish("bad", "", `{}`)
	eventually(t, "a dead letter", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked") == 1 })
	b.Exec("SELECT postrider.discard('s')")
	again()
	log.once(t, `msg="parked messages redriven or discarded by a command"`)
	// Another relay that takes no part in it says nothing of it.
	b.start(other.into)
	eventually(t, "two relays", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.relays") == 2 })
	b.Exec("SELECT postrider.unsubscribe('s')")
	log.says(t, `msg="subscription removed"`, "subscription=s")
	for _, once := range []string{"subscription paused", "subscription resumed", "subscription replayed", "parked messages", "subscription removed"} {
		log.once(t, once)
		if told := other.lines(once); told != nil {
			t.Errorf("the other relay tells it, too: %s", told)
		}
	}
}

// A relay that pauses a subscription itself says why, and says it once.
func TestOwnPausesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	b, log := newBench(t), &journal{}
	sub := b.subscribe("s", "{>}", "{}", "now")
	sub.answer(func(sinks.Delivery) error { return sinks.Gone(errors.New("the endpoint asks for no more")) })
	b.start(log.into)
	b.Publish("a", "", `{}`)
	eventually(t, "the pause", func() bool {
		return scalar[bool](b, "SELECT s.state = 'paused' AND c.owner IS NULL FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name")
	})
	sub.answer(nil)
	b.Exec("SELECT postrider.resume('s')")
	log.says(t, "subscription resumed")
	log.once(t, "level=ERROR", `msg="subscription paused"`, "the endpoint asks for no more")
	log.once(t, "subscription paused")
}

// A destination that is down and comes back is two lines, whatever happens in between.
func TestTroubleIsLogged(t *testing.T) {
	t.Parallel()
	b, log := newBench(t), &journal{}
	sub := b.subscribe("s", "{>}", "{}", "now")
	var mu sync.Mutex
	n := 0
	sub.answer(func(sinks.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		return sinks.Unavailable(fmt.Errorf("read from port %d: reset", n), 0)
	})
	b.start(log.into)
	for range 3 {
		b.Publish("a", "", `{}`)
	}
	eventually(t, "some probes", func() bool { mu.Lock(); defer mu.Unlock(); return n > 4 })
	sub.answer(nil)
	log.says(t, "level=INFO", `msg="deliveries go on"`, "subscription=s", "after=")
	log.once(t, "level=WARN", `msg="deliveries stand still"`, "destination is down", "reset")
	log.once(t, "deliveries go on")
}

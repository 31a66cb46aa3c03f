package relay

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// cursorLog is what a trigger writes down of every change of a cursor.
type cursorLog struct {
	subscription, owner string
	epoch               int64
	base                snapshot.Snapshot
}

// logCursors makes the database keep a record of all cursor writes.
func (b *bench) logCursors() {
	b.t.Helper()
	b.Exec(`CREATE TABLE cursor_log (n bigserial, subscription text, owner text, epoch bigint, base text);
		CREATE FUNCTION log_cursor() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO public.cursor_log (subscription, owner, epoch, base)
			VALUES (NEW.subscription, coalesce(NEW.owner::text, ''), NEW.epoch, NEW.base::text);
			RETURN NULL;
		END $$;
		CREATE TRIGGER log_cursor AFTER UPDATE ON postrider.cursors FOR EACH ROW EXECUTE FUNCTION log_cursor()`)
}

// checkCursorLog: epochs never fall, one epoch has one owner, and no base sees less than the one before.
func (b *bench) checkCursorLog() {
	b.t.Helper()
	rows, err := b.Admin.Query(b.t.Context(), "SELECT subscription, owner, epoch, base FROM cursor_log ORDER BY n")
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	last := make(map[string]cursorLog)
	owners := make(map[string]string)
	writes := 0
	for rows.Next() {
		var c cursorLog
		var base string
		if err := rows.Scan(&c.subscription, &c.owner, &c.epoch, &base); err != nil {
			b.t.Fatal(err)
		}
		if c.base, err = snapshot.Parse(base); err != nil {
			b.t.Fatal(err)
		}
		writes++
		before, known := last[c.subscription]
		if known && c.epoch < before.epoch {
			b.t.Errorf("%s: epoch %d after %d", c.subscription, c.epoch, before.epoch)
		}
		if known && !c.base.Covers(before.base) {
			b.t.Errorf("%s: base %s after %s", c.subscription, c.base, before.base)
		}
		epoch := fmt.Sprint(c.subscription, " ", c.epoch)
		if owner := owners[epoch]; c.owner != "" && owner != "" && owner != c.owner {
			b.t.Errorf("%s: two owners in epoch %d", c.subscription, c.epoch)
		}
		if c.owner != "" {
			owners[epoch] = c.owner
		}
		last[c.subscription] = c
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	if writes == 0 {
		b.t.Error("no write of a cursor was logged")
	}
}

// owned counts the cursors of a relay by its name.
func (b *bench) owned(name string) int {
	b.t.Helper()
	return scalar[int](b, "SELECT count(*) FROM postrider.cursors c JOIN postrider.relays r ON r.incarnation = c.owner WHERE r.name = $1", name)
}

func named(name string) func(*Config) { return func(c *Config) { c.Name = name } }

func TestRelaysShareTheCursors(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.logCursors()
	var recs []*actor
	for n := range 6 {
		recs = append(recs, b.subscribe(fmt.Sprintf("s%d", n), "{>}", "{}", "now"))
	}
	load := b.traffic(2, 10*time.Millisecond)
	long := func(c *Config) { c.Lease = time.Hour } // so no cursor changes hands by its end
	first := b.start(named("first"), long)
	eventually(t, "the only relay owns all", func() bool { return b.owned("first") == 6 })
	second := b.start(named("second"), long)
	eventually(t, "two relays own three each", func() bool { return b.owned("first") == 3 && b.owned("second") == 3 })
	third := b.start(named("third"), long)
	eventually(t, "three relays own two each", func() bool {
		return b.owned("first") == 2 && b.owned("second") == 2 && b.owned("third") == 2
	})

	first.stop()
	eventually(t, "the others own all", func() bool { return b.owned("second") == 3 && b.owned("third") == 3 })
	third.stop()
	eventually(t, "the last relay owns all", func() bool { return b.owned("second") == 6 })
	load.stop()
	for _, rec := range recs {
		b.settled(rec)
		b.audit(rec, 0) // each hand-over was clean
	}
	second.stop()
	b.checkCursorLog()
	if n := scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL"); n != 0 {
		t.Errorf("%d cursors are owned by relays that have stopped", n)
	}
}

// through makes a relay connect to its server over the link.
func through(t *testing.T, link *linktest.InTest) func(*Config) {
	return func(c *Config) {
		u, err := url.Parse(c.DatabaseURL)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = link.Addr()
		c.DatabaseURL = u.String()
	}
}

// TestHungRelayIsTakenOver freezes a relay's connections, as if its process or network hung, and lets it go on later.
func TestHungRelayIsTakenOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.logCursors()
	all := b.subscribe("all", "{>}", "{}", "now")
	link := linktest.New(t, fmt.Sprintf("127.0.0.1:%d", b.DB.Server.Port()))
	hung, g := b.startWatched(named("hung"), through(t, link))
	eventually(t, "the first relay owns the cursor", func() bool { return b.owned("hung") == 1 })
	b.start(named("heir"))
	eventually(t, "both have seen each other", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.relays WHERE counter > 1") == 2 })
	load := b.traffic(2, 5*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.count() > 100 })
	old := hung.now.Load()
	link.Hang()
	frozen := time.Now()
	eventually(t, "the other relay takes over", func() bool { return b.owned("heir") == 1 })
	// The lease counts from the last change that the heir has seen, by polls of its own.
	lease := hung.config.Lease
	if took := time.Since(frozen); took < lease/2 {
		t.Errorf("taken over after %s, the lease is %s", took, lease)
	}
	check := b.savedIsNotRepeated(all)
	was := all.distinct()
	eventually(t, "messages are delivered by the heir", func() bool { return all.distinct() > was+50 })
	writes := scalar[int](b, "SELECT count(*) FROM cursor_log WHERE owner = $1", old.incarnation)

	link.Up()
	eventually(t, "the hung relay starts over", func() bool { return g.logged("registration is gone") == 1 && hung.Ready() == nil })
	eventually(t, "it is registered anew", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.relays WHERE name = 'hung' AND incarnation <> $1", old.incarnation) == 1
	})
	load.stop()
	b.settled(all)
	check()
	if n := scalar[int](b, "SELECT count(*) FROM cursor_log WHERE owner = $1", old.incarnation); n != writes {
		t.Errorf("%d writes by the old incarnation after it had lost the cursor", n-writes)
	}
	b.auditUnordered(all, all.distinct())
	b.checkCursorLog()
}

// waiting counts what lanes of the subscription mail have; a runner may be under way.
func waiting(r *running) int {
	if g := r.now.Load(); g != nil {
		if mail := g.running()[subscription.Whole("mail")]; mail != nil {
			return mail.Inside().Tasks
		}
	}
	return 0
}

// A relay that others hear nothing of begins no more deliveries: what it has in memory may be cancelled, or settled, by whoever has taken over. When it is
// heard again, it goes on.
func TestSilentRelayBeginsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	a := b.subscribe("mail", "{>}", `{"lanes": 1, "batch": 1}`, "now")
	var calls atomic.Int64
	lets := []chan struct{}{make(chan struct{}), make(chan struct{})} // of the silent relay, and of its heir
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.Topic == "slow" {
			<-lets[calls.Add(1)-1]
		}
		return nil
	})
	link := linktest.New(t, fmt.Sprintf("127.0.0.1:%d", b.DB.Server.Port()))
	silent := b.start(named("silent"), through(t, link))
	eventually(t, "the first relay owns the cursor", func() bool { return b.owned("silent") == 1 })
	b.start(named("heir"))
	eventually(t, "both have seen each other", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.relays WHERE counter > 1") == 2 })
	b.Publish("slow", "", "1")
	withdrawn := b.Publish("withdrawn", "", "2")[0]
	eventually(t, "one is out, and the other waits", func() bool { return calls.Load() == 1 && waiting(silent) == 2 })
	link.Hang()
	eventually(t, "the other relay takes over", func() bool { return b.owned("heir") == 1 && calls.Load() == 2 })
	b.Exec("SELECT postrider.cancel($1, 'mail')", withdrawn)
	eventually(t, "what waits is cancelled", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'cancelled'") == 1
	})
	close(lets[0])
	eventually(t, "the silent relay would go on", func() bool { g := silent.now.Load(); return g != nil && g.polls.lapsed.Load() })
	close(lets[1])
	b.Publish("more", "", "3")
	wantPayloads(t, a, "1", "1", "3")
	link.Up()
	eventually(t, "the silent relay is back", func() bool { return silent.Ready() == nil })
	b.Publish("more", "", "4")
	wantPayloads(t, a, "1", "1", "3", "4")
}

// A relay that cannot reach the database for longer than its lease goes on with what it has in memory once it can, though nobody took over.
func TestRelayThatWasAwayGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	a := b.subscribe("mail", "{>}", `{"lanes": 1, "batch": 1}`, "now")
	let := make(chan struct{})
	a.hold(let)
	link := linktest.New(t, fmt.Sprintf("127.0.0.1:%d", b.DB.Server.Port()))
	r := b.start(through(t, link))
	eventually(t, "it owns the cursor", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL") == 1
	})
	b.Publish("mail", "", "1", "2")
	eventually(t, "one is out, and the other waits", func() bool { return waiting(r) == 2 })
	link.Hang()
	eventually(t, "the lease is over", func() bool { return !r.Confirmed() })
	close(let)
	eventually(t, "a runner was told so", func() bool { g := r.now.Load(); return g != nil && g.polls.lapsed.Load() })
	wantPayloads(t, a, "1")
	link.Up()
	wantPayloads(t, a, "1", "2")
}

// Who was told that a delivery must not begin is woken once that is over, though nothing has failed meanwhile: a process that was stopped for a while.
func TestStoppedRelayIsWoken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	a := b.subscribe("mail", "{>}", `{"lanes": 1, "batch": 1}`, "now")
	let := make(chan struct{})
	a.hold(let)
	r := b.start(func(c *Config) { c.Lease, c.SaveInterval = time.Hour, time.Hour }) // a poll a second, and nothing else that wakes
	b.Publish("mail", "", "1", "2")
	eventually(t, "one is out, and the other waits", func() bool { return waiting(r) == 2 })
	past := time.Now().Add(-time.Second)
	r.now.Load().polls.sure.Store(&past)
	close(let)
	wantPayloads(t, a, "1", "2")
}

// TestLostCursorCannotBeSaved raises the epoch behind a relay's back, as a takeover does: neither its progress nor its parked
// rows are written any more.
func TestLostCursorCannotBeSaved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := b.subscribe("all", "{>}", "{}", "now")
	r := b.start(func(c *Config) { c.SaveInterval, c.Lease = time.Hour, time.Hour }) // it polls when the test says so
	b.Publish("t", "", "1")
	wantPayloads(t, all, "1")
	answer := make(chan struct{})
	all.hold(answer)
	var refused atomic.Bool // by the first who delivers it
	all.answer(func(d sinks.Delivery) error {
		if string(d.Payload) == "2" && refused.CompareAndSwap(false, true) {
			return sinks.Permanent(errors.New("a test"))
		}
		return nil
	})
	b.Publish("t", "", "2")
	eventually(t, "it is out", func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		return all.calls == 2
	})
	g := r.now.Load()
	run := g.running()[subscription.Whole("all")]
	b.Exec(`CREATE TABLE parked_log (n int); CREATE FUNCTION log_parked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO public.parked_log VALUES (1); RETURN NULL;
		END $$;
		CREATE TRIGGER log_parked AFTER INSERT ON postrider.parked FOR EACH ROW EXECUTE FUNCTION log_parked()`)
	before := scalar[string](b, "UPDATE postrider.cursors SET epoch = epoch + 1 RETURNING base::text || done_ids::text")
	close(answer) // a dead letter, which is saved at once
	eventually(t, "the runner hears that its cursor is lost", run.IsGone)
	if after := scalar[string](b, "SELECT base::text || done_ids::text FROM postrider.cursors"); after != before {
		t.Errorf("the cursor was saved: %s became %s", before, after)
	}
	eventually(t, "the relay takes the cursor anew", func() bool {
		now := g.running()[subscription.Whole("all")]
		return now != nil && now != run
	})
	b.Publish("t", "", "3")
	b.settled(all)
	if n := scalar[int](b, "SELECT count(*) FROM parked_log"); n != 0 {
		t.Errorf("%d parked rows were written for a lost cursor", n)
	}
}

func TestDeletedRegistration(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.logCursors()
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	load := b.traffic(2, 5*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.distinct() > 50 })
	eventually(t, "some of it is saved", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") > 0
	})
	check := b.savedIsNotRepeated(all)
	b.Exec("DELETE FROM postrider.relays")
	eventually(t, "the relay starts over", func() bool { return g.logged("registration is gone") == 1 })
	was := all.distinct()
	eventually(t, "messages are delivered", func() bool { return all.distinct() > was+50 })
	load.stop()
	b.settled(all)
	check()
	b.audit(all, was)
	b.checkCursorLog()
}

package torture

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const (
	// slotTimeout is the promise: after it nothing is left of a relay that died, whatever it died of.
	slotTimeout = 10 * time.Second
	// slack is for a busy machine.
	slack = 5 * time.Second
)

// inSlots are the subscriptions of these tests: one for each kind of destination.
var inSlots = []string{"events", "hooks", "strict"}

// soloRelay is for a relay that nobody competes with: the next one need not wait for long.
var soloRelay = []string{"POSTRIDER_LEASE=500ms"}

// slots says how many slots and WAL senders there are.
func (w *world) slots(t *testing.T) (n int) {
	t.Helper()
	return value[int](t, w, `SELECT ((SELECT count(*) FROM pg_replication_slots)
		+ (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'))::int`)
}

// awaitStream waits until a stream runs.
func (w *world) awaitStream(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		n, err := one[int](t.Context(), w.db, `SELECT count(*)::int FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
			WHERE r.state = 'streaming'`)
		if err == nil && n == 0 {
			err = fmt.Errorf("no stream runs")
		}
		return err
	})
}

// awaitNoSlot waits until no slot and no WAL sender is left, and returns how long it took from then on.
func (w *world) awaitNoSlot(t *testing.T, since time.Time, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		if n := w.slots(t); n > 0 {
			return fmt.Errorf("%d slots and WAL senders are left %v after their relay", n, time.Since(since).Round(time.Millisecond))
		}
		return nil
	})
	w.say("slot and WAL sender were gone after %v", time.Since(since).Round(time.Millisecond))
}

// awaitHalfMade waits until the making of a slot waits for an old transaction.
func (w *world) awaitHalfMade(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		list, err := ask[string](t.Context(), w.db, `SELECT a.wait_event_type FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
			WHERE a.backend_type = 'walsender'`)
		if err == nil && !slices.Contains(list, "Lock") {
			err = fmt.Errorf("no slot is half made: %q", list)
		}
		return err
	})
}

// A relay dies, or is stopped, while it creates its slot behind an old transaction: nothing may stay until that ends.
func TestSlotHalfMade(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *relay){
		"kill": func(_ *testing.T, r *relay) { r.kill() },
		"stop": func(t *testing.T, r *relay) {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := stage{Config: Config{Follow: "stream", Relays: 1}, only: inSlots, env: soloRelay}.set(t)
			old := w.openOld(t)
			w.play(t)
			before := w.measured(t)
			w.awaitHalfMade(t)
			w.arrive(t, 30*time.Second) // nobody waits for the stream
			w.awaitHalfMade(t)
			since := w.fault(name, func() { end(t, w.relays[0]) })
			w.awaitNoSlot(t, since, slotTimeout)

			w.play(t)
			w.arrive(t, 30*time.Second)
			old.commit(t, w)
			w.awaitStream(t)
			w.finish(t, before)
		})
	}
}

// The slot of a relay that is killed while it streams is gone at once.
func TestSlotOfKilled(t *testing.T) {
	t.Parallel()
	w := stage{Config: Config{Follow: "stream", Relays: 1}, only: inSlots, env: soloRelay}.set(t)
	w.play(t)
	before := w.measured(t)
	for range 3 {
		w.awaitStream(t)
		w.arrive(t, 30*time.Second)
		since := w.fault("kill", w.relays[0].kill)
		w.awaitNoSlot(t, since, slack)
		w.play(t)
	}
	w.finish(t, before)
}

// The slot of a relay that stands still is gone after wal_sender_timeout, which the relay sets itself. When it goes on,
// it gets another.
func TestSlotOfPaused(t *testing.T) {
	t.Parallel()
	w := stage{Config: Config{Follow: "stream", Relays: 1}, only: inSlots}.set(t)
	w.play(t)
	before := w.measured(t)
	w.awaitStream(t)
	w.arrive(t, 30*time.Second)
	w.fault("pause", func() {
		since := time.Now()
		w.relays[0].pause()
		defer w.relays[0].resume()
		w.awaitNoSlot(t, since, slotTimeout+slack)
	})
	w.arrive(t, 30*time.Second)
	w.awaitStream(t)
	w.finish(t, before)
}

// A transaction that is open for the whole run pins WAL: past the budget the slot goes, deliveries do not, and the stream comes
// back once the transaction has ended.
func TestSlotOverBudget(t *testing.T) {
	t.Parallel()
	const budget = 4 << 20
	w := stage{Config: Config{Follow: "stream", Relays: 1}, only: inSlots, prepare: "CREATE TABLE torture.junk (text text)",
		env: []string{"POSTRIDER_WAL_BUDGET=4MiB"}}.set(t)
	w.play(t)
	before := w.measured(t)
	w.awaitStream(t)
	old := w.openOld(t)
	w.arrive(t, 30*time.Second)
	w.exec(t, "INSERT INTO torture.junk SELECT repeat(n::text, 200) FROM generate_series(1, 8000) n")
	if n := value[int64](t, w, "SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots"); n < budget {
		t.Fatalf("the slot holds back %d bytes: not enough to prove anything", n)
	}
	w.awaitNoSlot(t, time.Now(), 2*time.Second+slack)
	for range 3 {
		w.exec(t, "CHECKPOINT") // nothing keeps the WAL any more
		w.arrive(t, 30*time.Second)
		if n := w.slots(t); n > 0 {
			t.Errorf("%d slots and WAL senders while the old transaction is open", n)
		}
	}
	old.commit(t, w)
	w.awaitStream(t)
	w.arrive(t, 30*time.Second)
	streamed := func() float64 { return w.metric(t, w.relays[0], "postrider_ticks_total", "kind=stream") }
	from := streamed()
	eventually(t, 30*time.Second, func() error {
		w.arrive(t, 30*time.Second)
		if streamed() == from {
			return fmt.Errorf("messages do not come by the stream again")
		}
		return nil
	})
	w.finish(t, before)
}

package torture

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/hooktest"
)

// Commits wait for a standby that does not answer: they are in the log, and decoded, but not visible. Nothing of them may be
// delivered, and nothing else may wait.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	w := stage{Config: Config{Follow: "stream", Relays: 1}}.set(t)
	w.play(t)
	before := w.measured(t)
	w.victim.Set("/victim", hooktest.Status(500))
	w.apps.start(context.WithoutCancel(t.Context()), kinds(w.Follow, false), 1)
	t.Cleanup(w.apps.stop)
	eventually(t, time.Minute, func() error {
		n, err := one[int](t.Context(), w.db, "SELECT count(*)::int FROM postrider.parked WHERE subscription = 'victim' AND state = 'retrying'")
		if err == nil && n == 0 {
			err = fmt.Errorf("there is nothing to try again")
		}
		return err
	})

	w.awaitStream(t) // a stream that begins later waits, too
	i := Incident{Fault: "sync", From: time.Now(), Hits: onDatabase}
	if err := w.db.waitForStandby(t.Context(), "nobody"); err != nil {
		t.Fatal(err)
	}
	hung := w.hang(t)
	w.awaitDecoded(t)
	w.victim.Set("/victim", hooktest.Accept)
	saves := w.metric(t, w.relays[0], "postrider_saves_total", "result=ok")
	ticks := w.metric(t, w.relays[0], "postrider_ticks_total")
	for range 3 {
		w.commitLocally(t)
		w.awaitVisible(t)
	}
	eventually(t, time.Minute, func() error {
		if n := w.metric(t, w.relays[0], "postrider_saves_total", "result=ok") - saves; n < 2 {
			return fmt.Errorf("progress was saved only %.0f times", n)
		}
		if n := w.metric(t, w.relays[0], "postrider_ticks_total") - ticks; n < 10 {
			return fmt.Errorf("there were only %.0f ticks", n)
		}
		return nil
	})
	w.nothing(t, "sessions of the relay that wait for the standby",
		"SELECT query FROM pg_stat_activity WHERE usename = 'relay' AND wait_event = 'SyncRep'")
	w.checkHidden(t, hung.messages)
	select {
	case err := <-hung.ended:
		t.Fatalf("the commit did not wait: %v", err)
	default:
	}

	if err := w.db.waitForStandby(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := <-hung.ended; err != nil {
		t.Error(err)
	}
	i.To = time.Now()
	w.incident(i)
	w.apps.stop()
	w.finish(t, before)
}

// hanging is a transaction whose COMMIT waits.
type hanging struct {
	messages []Message
	ended    chan error
}

// hang commits a transaction with a message of each topic, and returns when its COMMIT waits, as those of others do by then.
func (w *world) hang(t *testing.T) *hanging {
	t.Helper()
	conn, err := connect(t.Context(), w.db.url("app")+"&application_name=hanging")
	if err != nil {
		t.Fatal(err)
	}
	h := &hanging{ended: make(chan error, 1)}
	begun := make(chan struct{})
	p := &producer{producers: w.apps, name: "hanging"}
	go func() {
		defer closeConn(conn)
		h.ended <- p.transact(context.WithoutCancel(t.Context()), conn, func(tx *tx) error {
			defer close(begun)
			for _, topic := range []string{"orders.created", "users.created", "audit.login.failed", "strict.step", "poison.pill"} {
				if err := tx.insert(t.Context(), Message{Topic: topic, Key: p.key(0), Order: p.next()}); err != nil {
					return err
				}
			}
			h.messages = slices.Clone(tx.messages)
			return nil
		})
	}()
	<-begun
	eventually(t, time.Minute, func() error {
		waiting, err := ask[string](t.Context(), w.db, "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		if err == nil && (!slices.Contains(waiting, "hanging") || len(waiting) < 5) {
			err = fmt.Errorf("only %q wait for the standby", waiting)
		}
		return err
	})
	return h
}

// awaitDecoded waits until the relay has received all that is in the log.
func (w *world) awaitDecoded(t *testing.T) {
	t.Helper()
	lsn := value[string](t, w, "SELECT pg_current_wal_flush_lsn()::text")
	eventually(t, time.Minute, func() error {
		got, err := ask[string](t.Context(), w.db, "SELECT write_lsn::text FROM pg_stat_replication WHERE write_lsn >= $1::text::pg_lsn", lsn)
		if err == nil && len(got) == 0 {
			err = fmt.Errorf("no stream has come to %s", lsn)
		}
		return err
	})
}

// commitLocally commits a transaction that does not wait.
func (w *world) commitLocally(t *testing.T) {
	t.Helper()
	local := &producers{history: w.apps.history, url: func() string { return w.db.url("app") + "&synchronous_commit=local" }}
	if err := local.mark(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitVisible waits until all that is visible by now has arrived everywhere.
func (w *world) awaitVisible(t *testing.T) {
	t.Helper()
	numbers, err := ask[int64](t.Context(), w.db, "SELECT number FROM torture.tx")
	if err != nil {
		t.Fatal(err)
	}
	visible := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		visible[n] = true
	}
	truth := w.apps.history.settle(visible, "")
	due := make(map[*subscription][]int64)
	for _, s := range w.subs {
		due[s] = (&evidence{truth: truth}).due(s.Expectation)
	}
	eventually(t, time.Minute, func() error {
		n, err := w.missing(t.Context(), due)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d deliveries of visible messages are missing", n)
		}
		return err
	})
}

// checkHidden fails for each message that has been offered to a destination.
func (w *world) checkHidden(t *testing.T, messages []Message) {
	t.Helper()
	for _, s := range w.subs {
		if s.stream != nil {
			if err := s.stream.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range s.book.all() {
			if slices.ContainsFunc(messages, func(m Message) bool { return m.ID == a.ID }) {
				t.Errorf("%s received message %s, which nobody can see yet", s.Name, idString(a.ID))
			}
		}
	}
}

package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
)

// takeoverTime is the promise: the lease, and a poll (a quarter of the lease) before it begins and after it ends. The slack is
// for a machine that has other things to do.
const takeoverTime = lease + 2*lease/4 + slack

// troupe is a number of relays under audit.
type troupe struct {
	*world
	lives []int
}

// newTroupe starts the relays and the producers.
func newTroupe(t *testing.T, relays int, env ...string) (*troupe, size) {
	t.Helper()
	w := stage{Config: Config{Follow: "stream", Relays: relays}, prepare: auditSchema, env: env}.set(t)
	tr := &troupe{world: w, lives: make([]int, relays)}
	for i := range w.relays {
		tr.bear(i)
	}
	w.play(t)
	before := w.measured(t)
	tr.awaitShares(t)
	w.apps.start(context.WithoutCancel(t.Context()), kinds(w.Follow, false), 2)
	t.Cleanup(w.apps.stop)
	return tr, before
}

// bear prepares the next life of a relay.
func (tr *troupe) bear(i int) {
	tr.lives[i]++
	rename(tr.relays[i], tr.lives[i])
}

// name is that of a relay's life.
func (tr *troupe) name(i int) string { return fmt.Sprintf("%s-%d", tr.relays[i].name, tr.lives[i]) }

// owned lists the subscriptions of a relay's life.
func (tr *troupe) owned(t *testing.T, i int) []string {
	t.Helper()
	list, err := ask[string](t.Context(), tr.db, `SELECT c.subscription FROM postrider.cursors c JOIN postrider.relays r ON r.incarnation = c.owner
		WHERE r.name = $1 ORDER BY 1`, tr.name(i))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// awaitShares waits until every relay that runs has something to do.
func (tr *troupe) awaitShares(t *testing.T) {
	t.Helper()
	for i, r := range tr.relays {
		eventually(t, time.Minute, func() error {
			if r.running() && len(tr.owned(t, i)) == 0 {
				return fmt.Errorf("relay %s has nothing to do", tr.name(i))
			}
			return nil
		})
	}
}

// mark is the audit's last row.
func (tr *troupe) mark(t *testing.T) int64 {
	t.Helper()
	return value[int64](t, tr.world, "SELECT coalesce(max(n), 0) FROM torture.audit")
}

// awaitTakeover waits until what the relays owned is delivered by others, and fails if that took longer than promised.
func (tr *troupe) awaitTakeover(t *testing.T, since time.Time, n int64, names []string) {
	t.Helper()
	for name, at := range tr.takeovers(t, n, names, time.Until(since.Add(takeoverTime))) {
		sub := tr.subs[slices.IndexFunc(tr.subs, func(s *subscription) bool { return s.Name == name })]
		var first time.Time
		eventually(t, time.Until(since.Add(takeoverTime)), func() (err error) {
			if first, err = sub.firstAfter(t.Context(), at); err != nil {
				return err
			}
			if first.IsZero() {
				return fmt.Errorf("%s: taken over at %s, nothing delivered", name, clock(at))
			}
			return nil
		})
		tr.say("%s: taken over after %v, first delivery after %v", name, at.Sub(since).Round(time.Millisecond), first.Sub(since).Round(time.Millisecond))
		if took := first.Sub(since); took > takeoverTime {
			t.Errorf("%s: first delivery by another relay after %v, promised within %v", name, took, takeoverTime)
		}
	}
}

// firstAfter is when something was delivered first after a time, zero if nothing was.
func (s *subscription) firstAfter(ctx context.Context, at time.Time) (time.Time, error) {
	if s.stream != nil {
		if err := s.stream.catchUp(ctx); err != nil {
			return time.Time{}, err
		}
	}
	for _, a := range s.book.all() {
		if a.At.After(at) {
			return a.At, nil
		}
	}
	return time.Time{}, nil
}

// end stops the producers, finishes the round and audits it.
func (tr *troupe) end(t *testing.T, before size) {
	t.Helper()
	tr.apps.stop()
	for i, r := range tr.relays {
		if !r.running() {
			tr.bear(i)
		}
	}
	if err := tr.mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.finish(t, before)
	tr.checkAudit(t)
}

// Two relays are killed in turn: each time the other takes over.
func TestTakeoverOfTwo(t *testing.T) {
	t.Parallel()
	tr, before := newTroupe(t, 2)
	for i := range 2 {
		n, names := tr.mark(t), tr.owned(t, i)
		since := tr.fault("kill", tr.relays[i].kill)
		tr.awaitTakeover(t, since, n, names)
		tr.bear(i)
		tr.play(t)
		tr.awaitShares(t)
	}
	tr.end(t, before)
}

// Of three relays two are killed one after the other, the second before anybody took over from the first.
func TestTakeoverOfThree(t *testing.T) {
	t.Parallel()
	tr, before := newTroupe(t, 3)
	n, names := tr.mark(t), append(tr.owned(t, 0), tr.owned(t, 1)...)
	tr.fault("kill", tr.relays[0].kill)
	if !pause(t.Context(), lease/4) {
		t.Fatal(t.Context().Err())
	}
	since := tr.fault("kill", tr.relays[1].kill)
	tr.awaitTakeover(t, since, n, names)
	if got := tr.owned(t, 2); len(got) != len(tr.subs) {
		t.Errorf("the last relay delivers only %s", strings.Join(got, ", "))
	}
	tr.end(t, before)
}

// A relay stands still, or nothing that it sends reaches the database, for longer than its lease, while another advances what it
// had. When it goes on it must find out before it writes; what it sent before, and comes late, must change nothing.
func TestTakeoverOfAbsent(t *testing.T) {
	for name, absent := range map[string]func(*world, int) (back func() error){
		"pause": func(w *world, i int) func() error {
			w.relays[i].pause()
			return func() error { w.relays[i].resume(); return nil }
		},
		"halfopen": func(w *world, i int) func() error {
			w.links[i].each(func(l *linktest.Link) { l.HalfOpen(linktest.ToServer) })
			return w.links[i].heal
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Saves are so frequent that one is on its way when the relay disappears.
			tr, before := newTroupe(t, 2, "POSTRIDER_SAVE_INTERVAL=50ms")
			i := 0
			if slices.Contains(tr.owned(t, 1), "events") {
				i = 1 // the one that always has something to save
			}
			tr.awaitSaves(t, i, []string{"events"})
			n, names := tr.mark(t), tr.owned(t, i)
			tr.fault(name, func() {
				since := time.Now()
				back := absent(tr.world, i)
				tr.awaitTakeover(t, since, n, names)
				tr.awaitSaves(t, 1-i, names)
				if err := back(); err != nil {
					t.Fatal(err)
				}
			})
			// It is back only when it has registered anew.
			eventually(t, time.Minute, func() error {
				lives, err := one[int](t.Context(), tr.db,
					"SELECT count(DISTINCT incarnation)::int FROM torture.audit WHERE what = 'relay' AND owner_name = $1", tr.name(i))
				if err == nil && lives < 2 {
					err = fmt.Errorf("%s has not registered anew", tr.name(i))
				}
				return err
			})
			tr.awaitShares(t)
			tr.end(t, before)
		})
	}
}

// awaitSaves waits until a relay has advanced all of the cursors.
func (tr *troupe) awaitSaves(t *testing.T, i int, names []string) {
	t.Helper()
	from := tr.mark(t)
	eventually(t, time.Minute, func() error {
		saved, err := one[int](t.Context(), tr.db, `SELECT count(DISTINCT subscription)::int FROM torture.audit
			WHERE n > $1 AND moved AND writer = $2 AND subscription = ANY ($3)`, from, tr.name(i), names)
		if err == nil && saved < len(names) {
			err = fmt.Errorf("%s has advanced only %d of %d cursors", tr.name(i), saved, len(names))
		}
		return err
	})
}

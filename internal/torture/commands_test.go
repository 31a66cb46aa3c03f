package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/hooktest"
)

// scene is a round in which a test does something of its own while producers write.
type scene struct {
	*world
	t *testing.T
}

// busy plays a round with these producers and with act in place of faults.
func busy(t *testing.T, c Config, kinds []kind, act func(*scene)) *Report {
	t.Helper()
	w := stage{Config: c}.set(t)
	w.play(t)
	before := w.measured(t)
	w.apps.start(t.Context(), kinds, 2)
	defer w.apps.stop()
	act(&scene{world: w, t: t})
	w.apps.stop()
	return w.finish(t, before)
}

// kindsBut returns the usual producers but for some.
func kindsBut(names ...string) []kind {
	return slices.DeleteFunc(kinds("stream", false), func(k kind) bool { return slices.Contains(names, k.name) })
}

// need ends the test with an error.
func (s *scene) need(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) until(what string, ask func() error) {
	s.t.Helper()
	if err := poll(s.t.Context(), time.Minute, ask); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *scene) cli(args ...string) {
	s.t.Helper()
	s.need(s.command(args...))
}

func (s *scene) sql(sql string, args ...any) {
	s.t.Helper()
	s.exec(s.t, sql, args...)
}

// sub returns one of the round's subscriptions.
func (s *scene) sub(name string) *subscription {
	return s.subs[slices.IndexFunc(s.subs, func(x *subscription) bool { return x.Name == name })]
}

// seen returns how many deliveries the destination has seen.
func (s *scene) seen(x *subscription) int {
	s.t.Helper()
	if x.stream != nil {
		s.need(x.stream.catchUp(s.t.Context()))
	}
	return len(x.book.all())
}

// more waits for n more deliveries.
func (s *scene) more(x *subscription, n int) {
	s.t.Helper()
	from := s.seen(x)
	s.until(x.Name+" gets more", func() error {
		if is := s.seen(x); is < from+n {
			return fmt.Errorf("%d of %d deliveries", is-from, n)
		}
		return nil
	})
}

// attend opens an endpoint of its own for a subscription that the test makes and removes.
func (s *scene) attend(x *subscription) *hooktest.Receiver {
	s.t.Helper()
	x.book = newBook()
	r, err := hooktest.Start(func(a hooktest.Arrival) {
		p, err := parsePayload(a.Body)
		if err != nil {
			return // cut off
		}
		x.book.add(Arrival{ID: p.ID, Wire: a.Header.Get("Webhook-Id"), At: a.At, Accepted: a.Accepted})
		s.look.at(p.ID)
	})
	s.need(err)
	s.undo = append(s.undo, func() error { r.Stop(); return nil })
	return r
}

// leave waits until a subscription that the test made has got what it wants of the truth, and removes it. The round judges it.
func (s *scene) leave(x *subscription, t *truth) {
	s.t.Helper()
	due := (&evidence{truth: t}).due(x.Expectation)
	s.until(x.Name+" has got everything", func() error {
		if n := x.book.missing(due); n > 0 {
			return fmt.Errorf("%d of %d messages are missing", n, len(due))
		}
		return nil
	})
	s.until(x.Name+" has settled everything", func() error {
		n, err := one[int](s.t.Context(), s.db, "SELECT count(*)::int FROM postrider.deliveries WHERE subscription = $1 AND status NOT IN ('delivered', 'discarded')", x.Name)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d messages are not delivered", n)
		}
		return err
	})
	s.cli("subs", "remove", x.Name)
	matches := x.Matches
	x.Matches = func(m Message) bool { _, ok := t.messages[m.ID]; return ok && matches(m) } // later ones are not for it
	s.subs = append(s.subs, x)
}

// settled stops the producers and returns what they did.
func (s *scene) settled() *truth {
	s.t.Helper()
	s.apps.stop()
	t, err := s.truth(s.t.Context())
	s.need(err)
	return t
}

// unowned waits until a paused subscription has no relay any more: from then on nothing is delivered. A relay looks about once a
// second, and what is on its way may take as long as its timeout.
func (s *scene) unowned(name string) {
	s.t.Helper()
	since := time.Now()
	s.until(name+" is nobody's", func() error {
		owned, err := one[bool](s.t.Context(), s.db, "SELECT owner IS NOT NULL FROM postrider.cursors WHERE subscription = $1", name)
		if err == nil && owned {
			err = fmt.Errorf("it is owned")
		}
		return err
	})
	took := time.Since(since)
	s.say("%s was paused within %v", name, took.Round(time.Millisecond))
	if took > 15*time.Second { // for a busy machine
		s.t.Errorf("%s was paused after %v, want about a second and the time of a delivery", name, took)
	}
}

// A pause takes effect in order: what was accepted is saved, so that nothing comes twice, and then nothing comes until resume.
func TestPauseWhileBusy(t *testing.T) {
	t.Parallel()
	busy(t, Config{Follow: "stream", Relays: 2, NATSServers: 1}, kinds("stream", false), func(s *scene) {
		s.victim.Set("/victim", hooktest.Slow(100*time.Millisecond)) // there is always something on its way
		for i, name := range []string{"victim", "events", "strict"} {
			x, other := s.sub(name), s.sub("once")
			s.more(x, 5)
			if i%2 == 0 {
				s.cli("subs", "pause", name, "--reason", "lunch")
			} else {
				s.sql("SELECT postrider.pause($1)", name)
			}
			s.unowned(name)
			n := s.seen(x)
			s.more(other, 50)
			if is := s.seen(x); is != n {
				t.Errorf("%s got %d deliveries while it was paused", name, is-n)
			}
			if i%2 == 0 {
				s.cli("subs", "resume", name)
			} else {
				s.sql("SELECT postrider.resume($1)", name)
			}
			s.more(x, 5)
		}
		s.victim.Set("/victim", hooktest.Accept)
		for range 8 { // often too quick to be noticed, or noticed when it is over
			s.sql("SELECT postrider.pause('hooks')")
			pause(s.t.Context(), time.Duration(rand.IntN(300))*time.Millisecond)
			s.sql("SELECT postrider.resume('hooks')")
			pause(s.t.Context(), time.Duration(rand.IntN(100))*time.Millisecond)
		}
		s.more(s.sub("hooks"), 50)
	}) // no incident is told of: the round finds everything that came twice
}

package relay

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// busy publishes messages of a topic until the returned function is called, which returns their ids.
func (s *scene) busy(topic string) (stop func() []int64) {
	var ids []int64
	var done sync.WaitGroup
	ended := make(chan struct{})
	done.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
				ids = append(ids, s.bulk(topic, 10, 7)...)
				async.Sleep(s.t.Context(), 5*time.Millisecond) // as applications do
			}
		}
	})
	return func() []int64 {
		close(ended)
		done.Wait()
		return ids
	}
}

// more waits until the actor has accepted n more messages.
func (a *actor) more(t *testing.T, n int) {
	t.Helper()
	from := a.count()
	eventually(t, "more is delivered", func() bool { return a.count() >= from+n })
}

func (s *scene) unowned(name string) {
	s.t.Helper()
	eventually(s.t, name+" is nobody's", func() bool {
		return scalar[bool](s.bench, "SELECT owner IS NULL FROM postrider.cursors WHERE subscription = $1", name)
	})
}

func TestPauseAndResumeWhileBusy(t *testing.T) {
	s := newScene(t)
	a, b := s.cast("sub", "{>}", "{}"), s.cast("other", "{>}", "{}")
	s.play()
	stop := s.busy("x")
	for range 3 {
		a.more(t, 100)
		s.Exec("SELECT postrider.pause('sub', 'lunch')")
		s.unowned("sub")
		n := a.count()
		b.more(t, 50)
		if a.count() != n {
			t.Error("a paused subscription delivers")
		}
		s.Exec("SELECT postrider.resume('sub')")
	}
	ids := stop()
	a.got(t, ids)
	a.exactly(t, ids)
	b.got(t, ids)
	b.exactly(t, ids)
}

func TestReplayWhileBusy(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"on_dead": "skip"}`)
	a.plays(failing("bad", 1000, sinks.Permanent(errScene)))
	s.play()
	old := s.bulk("x", 500, 7)
	dead := s.Publish("bad", "key-1", `1`)
	a.got(t, old)
	s.shows("sub", "dead", dead...)
	since := scalar[time.Time](s.bench, "SELECT clock_timestamp()")
	recent := s.bulk("x", 200, 7)
	a.got(t, recent)
	stop := s.busy("x")
	a.more(t, 50)
	twice := func(ids []int64) func() bool {
		return func() bool {
			n := make(map[int64]int)
			for _, id := range a.accepted("*") {
				n[id]++
			}
			return !slices.ContainsFunc(ids, func(id int64) bool { return n[id] < 2 })
		}
	}
	s.Exec("SELECT postrider.replay('sub', $1)", since.Format(time.RFC3339Nano))
	eventually(t, "recent messages come again", twice(recent))
	if got := a.accepted("*"); len(got)-len(slices.Compact(slices.Sorted(slices.Values(got)))) < len(recent) || twice(old)() {
		t.Error("a replay from a time brought older messages again")
	}
	s.Exec("SELECT postrider.replay('sub', 'earliest')")
	eventually(t, "old messages come again", twice(old))
	live := stop()
	a.got(t, live)
	s.shows("sub", "dead", dead...) // what is parked stays parked
	if n := len(a.of(dead[0])); n != 1 {
		t.Errorf("a dead message was delivered %d times, want once", n)
	}
	s.shows("sub", "delivered", slices.Concat(old, recent, live)...)
}

func TestRedriveAndDiscard(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"max_attempts": 2, "backoff_initial": "10ms", "backoff_max": "20ms"}`)
	a.plays(failing("bad", 1000, errScene))
	s.play()
	stop := s.busy("x")
	bad := s.Publish("bad", "key-1", `1`, `2`, `3`, `4`)
	s.shows("sub", "dead", bad...)
	command := func(sql string, args ...any) {
		t.Helper()
		if n := scalar[int](s.bench, sql, args...); n == 0 {
			t.Errorf("%s changed nothing", sql)
		}
	}
	command("SELECT postrider.redrive('sub', $1::bigint[])", bad[:1]) // from the first attempt, and in vain
	eventually(t, "the redriven message fails again", func() bool { return len(a.of(bad[0])) == 4 })
	if x := a.of(bad[0])[2]; x.Attempt != 1 {
		t.Errorf("the redriven message came as attempt %d, want 1", x.Attempt)
	}
	s.shows("sub", "dead", bad...)
	a.plays(nil)
	command("SELECT postrider.redrive('sub', $1::bigint[])", bad[1:2])
	a.got(t, bad[1:2])
	s.shows("sub", "delivered", bad[1])
	command("SELECT postrider.discard('sub', $1::bigint[])", bad[:1])
	s.shows("sub", "discarded", bad[0])
	command("SELECT postrider.redrive('sub')") // all that are dead
	a.got(t, bad[1:])
	s.shows("sub", "delivered", bad[1:]...)
	s.shows("sub", "discarded", bad[0])
	command("SELECT postrider.redrive('sub', $1::bigint[])", bad[:1])
	a.got(t, bad)
	ids := append(stop(), bad...)
	a.got(t, ids)
	a.exactly(t, ids)
	s.settledAll("sub")
}

func TestDiscardOfWhatWaits(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", quickRetry)
	a.plays(failing("bad", 1000000, errScene))
	s.play()
	bad := s.Publish("bad", "k", `1`)
	s.shows("sub", "retrying", bad...)
	held := s.Publish("good", "k", `2`, `3`, `4`)
	s.shows("sub", "held", held...)
	s.Exec("SELECT postrider.discard('sub', $1::bigint[])", []int64{bad[0], held[1]})
	a.got(t, []int64{held[0], held[2]})
	if got, want := a.accepted("k"), []int64{held[0], held[2]}; !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
	s.shows("sub", "discarded", bad[0], held[1])
}

// A change of topics applies forward only: to each transaction apply the topics of the time at which it was not yet over.
func TestChangeOfTopics(t *testing.T) {
	for _, mode := range []string{"live", "hanging", "down"} {
		t.Run(mode, func(t *testing.T) {
			s := newScene(t)
			a := s.cast("sub", "{a,both}", "{}")
			let := make(chan struct{})
			if mode == "hanging" {
				a.plays(func(ctx context.Context, d sinks.Delivery) error { return hanging(d.Topic, let)(ctx, d) })
			}
			if mode != "down" {
				s.play()
				first := s.Publish("a", "", `0`)
				eventually(t, "the relay delivers", func() bool { return s.status("sub", first[0]) == "delivered" || mode == "hanging" })
			}
			publish := func(exec interface {
				QueryRow(context.Context, string, ...any) pgx.Row
			}) (ids map[string]int64) {
				ids = make(map[string]int64)
				for _, topic := range []string{"a", "b", "both"} {
					var id int64
					if err := exec.QueryRow(t.Context(), "SELECT postrider.enqueue($1, '1', 'k')", topic).Scan(&id); err != nil {
						t.Fatal(err)
					}
					ids[topic] = id
				}
				return ids
			}
			begin := func() pgx.Tx {
				tx, err := s.App.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return tx
			}
			before := publish(s.App)
			across := begin()
			open := publish(across)
			s.Exec("UPDATE postrider.subscriptions SET topics = '{b,both}' WHERE name = 'sub'")
			after := publish(s.App)
			if err := across.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Exec("UPDATE postrider.subscriptions SET topics = '{a}' WHERE name = 'sub'")
			last := publish(s.App)
			if mode == "down" {
				s.play()
			}
			want := []int64{before["a"], before["both"], open["b"], open["both"], after["b"], after["both"], last["a"]}
			close(let)
			s.settledAll("sub")
			shown := scalar[[]int64](s.bench, "SELECT array_agg(id ORDER BY id) FROM postrider.deliveries WHERE id >= $1", before["a"])
			slices.Sort(want)
			if !slices.Equal(shown, want) {
				t.Errorf("the view shows %v, want %v", shown, want)
			}
			if missing := a.missing(want); len(missing) > 0 {
				t.Errorf("%v were not delivered", missing)
			}
			if mode != "down" {
				return // a relay that has not noticed the change yet may deliver some more by the old topics
			}
			got := slices.DeleteFunc(a.accepted("*"), func(id int64) bool { return id < before["a"] })
			if got = slices.Compact(slices.Sorted(slices.Values(got))); !slices.Equal(got, want) {
				t.Errorf("delivered %v, want %v", got, want)
			}
		})
	}
}

func TestChangeOfTopicsWhileBusy(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{x,y}", "{}")
	s.play()
	x, y := s.busy("x"), s.busy("y")
	for _, topics := range []string{"{y}", "{x,y}", "{x}", "{>}"} {
		a.more(t, 50)
		s.Exec("UPDATE postrider.subscriptions SET topics = $1::text::text[]", topics)
	}
	x()
	y()
	s.settledAll("sub")
	want := scalar[[]int64](s.bench, "SELECT array_agg(id ORDER BY id) FROM postrider.deliveries WHERE status = 'delivered'")
	if missing := a.missing(want); len(missing) > 0 {
		t.Errorf("%d of %d messages were not delivered, such as %d", len(missing), len(want), missing[0])
	}
	if all := len(s.stored()); len(want) >= all {
		t.Errorf("all %d messages were wanted: no change applied", all)
	}
}

func TestChangeOfSinkAndSettings(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	a.limits = sinks.Limits{Lanes: 2, Batch: 10}
	b := s.actor("new")
	s.play()
	stop := s.busy("x")
	a.more(t, 100)
	s.Exec(`UPDATE postrider.subscriptions SET settings = '{"batch": 1, "lanes": 1}'`)
	a.more(t, 100)
	s.Exec("UPDATE postrider.subscriptions SET sink = 'actor:new'")
	b.more(t, 100)
	n := a.count()
	b.more(t, 100)
	if a.count() != n {
		t.Error("the old destination still gets messages")
	}
	ids := stop()
	eventually(t, "all is delivered", func() bool { return a.count()+b.count() >= len(ids) })
	got := slices.Concat(a.accepted("*"), b.accepted("*"))
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("%d messages were delivered, want each of %d once", len(got), len(want))
	}
}

func TestUnsubscribeWhileDelivering(t *testing.T) {
	s := newScene(t)
	a, b := s.cast("sub", "{>}", `{"backoff_initial": "1ms", "backoff_max": "2ms", "max_attempts": 100000}`), s.cast("other", "{>}", "{}")
	a.plays(failing("bad", 100000, errScene))
	r := s.play()
	stop := s.busy("x")
	bad := s.Publish("bad", "k", `1`)
	a.more(t, 100)
	s.shows("sub", "retrying", bad...)
	s.Exec("SELECT postrider.unsubscribe('sub')")
	eventually(t, "its deliveries end", func() bool {
		g := r.now.Load()
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.runners[subscription.Whole("sub")] == nil && !g.ending[subscription.Whole("sub")]
	})
	ended := len(a.all())
	b.more(t, 50)
	s.Exec("SELECT postrider.subscribe('sub', '{x}', 'actor:again')")
	again := s.actor("again")
	again.more(t, 50)
	stop()
	b.got(t, s.stored())
	b.exactly(t, s.stored())
	s.settledAll("sub")
	if len(a.all()) != ended {
		t.Error("the first subscription came back to life")
	}
}

func TestSubscribeAndEnqueueInOneTransaction(t *testing.T) {
	s := newScene(t)
	s.play()
	var earlier []int64
	err := pgx.BeginFunc(t.Context(), s.Admin, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"SELECT postrider.enqueue('x', '1')", "SELECT postrider.subscribe('sub', '{>}', 'actor:sub')", "SELECT postrider.enqueue('x', '2')",
		} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
			earlier = append(earlier, s.Publish("x", "", `3`)...) // others commit meanwhile
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(s.stored(), func(id int64) bool { return id == earlier[0] }) // visible before the subscription
	s.actor("sub").got(t, want)
	s.actor("sub").exactly(t, want)
	s.settledAll("sub")
}

// A newer relay may know what this one does not: it leaves the subscription alone, and takes it when it has changed.
func TestUnknownSettingIsLeftToOthers(t *testing.T) {
	for name, c := range map[string]struct{ change, undo, reason string }{
		"unknown setting": {`settings = '{"lane": 3}'`, `settings = '{"lanes": 3}'`, `"lane"`},
		"wrong value":     {`settings = '{"ordering": "fifo"}'`, `settings = '{}'`, `ordering "fifo": must be key, none or strict`},
		"unknown scheme":  {`sink = 'carrier-pigeon:x'`, `sink = 'actor:sub'`, `"carrier-pigeon:x"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			a, other := s.cast("sub", "{>}", "{}"), s.cast("other", "{>}", "{}")
			s.play()
			ids := s.bulk("x", 50, 0)
			a.got(t, ids)
			s.Exec("UPDATE postrider.subscriptions SET " + c.change + " WHERE name = 'sub'")
			var reason string
			eventually(t, "the relay says why", func() bool {
				reason = scalar[string](s.bench, "SELECT coalesce(max(unable -> 'sub' ->> 'reason'), '') FROM postrider.relays")
				return reason != ""
			})
			if !strings.Contains(reason, c.reason) {
				t.Errorf("the reason is %q, want it to name %s", reason, c.reason)
			}
			s.unowned("sub")
			more := s.bulk("x", 50, 0)
			other.got(t, more)
			if state := scalar[string](s.bench, "SELECT state FROM postrider.subscriptions WHERE name = 'sub'"); state != "active" {
				t.Errorf("the subscription is %s for all", state)
			}
			s.Exec("UPDATE postrider.subscriptions SET " + c.undo + " WHERE name = 'sub'")
			a.got(t, more)
			a.exactly(t, append(ids, more...))
		})
	}
}

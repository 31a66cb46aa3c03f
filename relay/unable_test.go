package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// lacking makes a relay's Open fail for some subscriptions, and counts its calls.
type lacking struct {
	mu     sync.Mutex
	names  []string
	opened atomic.Int64
}

func (l *lacking) lacks(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = names
}

func (l *lacking) config(c *Config) {
	open := c.Open
	c.Open = func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
		l.opened.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, name := range l.names {
			if name == s.Name || name == ">" {
				return nil, errors.New("the secret of " + s.Name + " cannot be used")
			}
		}
		return open(ctx, s)
	}
}

// counters waits until every relay that is registered has renewed its lease a few times: whatever they want of each other has happened by
// then. One that has registered anew meanwhile counts from there.
func (b *bench) counters(more int64) {
	b.t.Helper()
	from := scalar[string](b, "SELECT coalesce(jsonb_object_agg(incarnation, counter), '{}')::text FROM postrider.relays")
	eventually(b.t, "the relays look at each other", func() bool {
		return scalar[bool](b, `SELECT coalesce(bool_and(counter >= coalesce(($1::text::jsonb ->> incarnation::text)::bigint, 0) + $2), true)
			FROM postrider.relays`, from, more)
	})
}

func (b *bench) unable(relay, subscription string) string {
	b.t.Helper()
	return scalar[string](b, "SELECT coalesce(string_agg(unable -> $2 ->> 'reason', ', '), '') FROM postrider.relays WHERE name = $1", relay, subscription)
}

// What one relay lacks stops nobody: it leaves the subscription to others, says why, and takes it when it has what it needs.
func TestRelayThatLacksASecretLeavesTheSubscriptionToOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	billing, other := b.subscribe("billing", "{>}", "{}", "now"), b.subscribe("other", "{>}", "{}", "now")
	b.Publish("t", "", "1")
	var poor lacking
	poor.lacks("billing")
	second, g := b.startWatched(named("poor"), poor.config)
	wantPayloads(t, other, "1")
	const reason = "open sink: the secret of billing cannot be used"
	eventually(t, "the reason is in the database", func() bool { return b.unable("poor", "billing") == reason })
	eventually(t, "the relay is not ready, as nobody delivers", func() bool {
		err := second.Ready()
		return err != nil && strings.Contains(err.Error(), `"billing"`) && strings.Contains(err.Error(), reason)
	})
	if n := scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE subscription = 'billing' AND owner IS NOT NULL"); n != 0 {
		t.Error("it keeps the cursor that it cannot use")
	}

	rich := b.start(named("rich"))
	wantPayloads(t, billing, "1")
	eventually(t, "the relay is ready again", func() bool { return second.Ready() == nil })
	b.Publish("t", "", "2", "3")
	b.counters(2)
	b.settled(billing)
	if state := scalar[string](b, "SELECT state FROM postrider.subscriptions WHERE name = 'billing'"); state != "active" {
		t.Errorf("the subscription is %s", state)
	}
	if n := g.logged(reason); n != 1 {
		t.Errorf("the reason was logged %d times, want once", n)
	}
	if err := rich.Ready(); err != nil {
		t.Errorf("the relay that delivers is not ready: %v", err)
	}

	poor.lacks()
	eventually(t, "it notices that it can", func() bool { return b.unable("poor", "billing") == "" })
	rich.stop()
	b.Publish("t", "", "4")
	b.settled(billing)
	if b.owned("poor") != 2 {
		t.Error("the other relay has not taken over")
	}
}

// A relay that delivered a subscription and cannot any more after a change lets it go.
func TestRelayThatLacksWhatAChangeNeeds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	billing := b.subscribe("billing", "{>}", "{}", "now")
	var poor lacking
	b.start(named("poor"), poor.config)
	eventually(t, "it delivers", func() bool { return b.owned("poor") == 1 })
	poor.lacks("billing")
	b.Exec(`UPDATE postrider.subscriptions SET settings = '{"lanes": 2}'`)
	eventually(t, "it says that it cannot any more", func() bool { return b.unable("poor", "billing") != "" })
	b.start(named("rich"))
	eventually(t, "it has left the subscription to the other", func() bool { return b.owned("rich") == 1 })
	b.Publish("t", "", "1")
	b.settled(billing)
	b.Exec(`UPDATE postrider.subscriptions SET settings = '{"lanes": 3}'`)
	b.counters(2)
	b.Publish("t", "", "2")
	b.settled(billing)
}

// Shares are made of what each relay can deliver: nothing stays with nobody, and nothing goes to and fro.
func TestSharesOfRelaysThatLackSomething(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		second string // what the second of three relays lacks
		third  string
		most   [3]int
	}{
		{"one lacks half", "s0 s1 s2", "", [3]int{3, 2, 3}},
		{"two lack the same", "s0 s1", "s0 s1", [3]int{4, 2, 2}},
		{"one lacks all", ">", "", [3]int{3, 0, 3}},
		{"two lack all", ">", ">", [3]int{6, 0, 0}},
		{"each lacks others", "s0 s1 s2", "s3 s4 s5", [3]int{3, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var recs []*actor
			for n := range 6 {
				recs = append(recs, b.subscribe(fmt.Sprintf("s%d", n), "{>}", "{}", "now"))
			}
			var lack [3]lacking
			lack[1].lacks(strings.Fields(c.second)...)
			lack[2].lacks(strings.Fields(c.third)...)
			for i, name := range []string{"first", "second", "third"} {
				// A lease that a busy machine lets nobody miss: it would move everything once more.
				b.start(named(name), lack[i].config, func(c *Config) { c.Lease = 3 * time.Second })
				eventually(t, "all are delivered by somebody", func() bool {
					return scalar[int](b, "SELECT count(*) FROM postrider.cursors c JOIN postrider.relays r ON r.incarnation = c.owner") == 6
				})
			}
			fair := func() bool {
				first, second, third := b.owned("first"), b.owned("second"), b.owned("third")
				return first+second+third == 6 && first <= c.most[0] && second <= c.most[1] && third <= c.most[2]
			}
			const epochs = "SELECT sum(epoch) FROM postrider.cursors"
			eventually(t, "the shares are fair, and nothing changes hands any more", func() bool {
				before := scalar[int64](b, epochs)
				if !fair() {
					return false
				}
				b.counters(3)
				return fair() && scalar[int64](b, epochs) == before
			})
			b.Publish("t", "", "1")
			for _, rec := range recs {
				b.settled(rec)
			}
		})
	}
}

// Where no relay can, all say so, and none burns anything.
func TestRelaysThatAllLackASecret(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	billing := b.subscribe("billing", "{>}", "{}", "now")
	var poor lacking
	poor.lacks(">")
	began := time.Now()
	first, second := b.start(named("first"), poor.config), b.start(named("second"), poor.config)
	eventually(t, "both say so", func() bool { return b.unable("first", "billing") != "" && b.unable("second", "billing") != "" })
	eventually(t, "neither is ready", func() bool { return first.Ready() != nil && second.Ready() != nil })
	b.counters(8)
	// After 1, 2, 4, … seconds each, and once or twice at the start.
	if n, most := poor.opened.Load(), int64(2*(2+time.Since(began)/time.Second)); n > most {
		t.Errorf("the sink was opened %d times in %s, want %d at most", n, time.Since(began), most)
	}
	if epoch := scalar[int64](b, "SELECT epoch FROM postrider.cursors"); epoch > 5 {
		t.Errorf("the cursor was taken %d times", epoch)
	}
	poor.lacks()
	b.Publish("t", "", "1")
	b.settled(billing)
	eventually(t, "both are ready", func() bool { return first.Ready() == nil && second.Ready() == nil })
}

// What no build could use, on no machine, pauses the subscription; what this build does not know does not.
func TestWhatNoRelayCanUsePauses(t *testing.T) {
	for name, c := range map[string]struct{ change, undo, reason string }{
		"a number out of range": {`settings = '{"lanes": -3}'`, `settings = '{"lanes": 3}'`, `lanes -3`},
		"a wrong type":          {`settings = '{"lanes": "many"}'`, `settings = '{"lanes": 3}'`, `lanes`},
		"as the sink says":      {`sink = 'unusable:'`, `sink = 'actor:sub'`, `nobody can use it`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			sub := b.subscribe("sub", "{>}", "{}", "now")
			b.start(func(c *Config) {
				open := c.Open
				c.Open = func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
					if s.Sink == "unusable:" {
						return nil, Unusable(errors.New("nobody can use it"))
					}
					s.Sink = "record:"
					return open(ctx, s)
				}
			})
			eventually(t, "it is delivered", func() bool { return b.owned("relay") == 1 })
			b.Exec("UPDATE postrider.subscriptions SET " + c.change)
			eventually(t, "it is paused with a reason", func() bool {
				return strings.Contains(scalar[string](b, "SELECT state || ' ' || coalesce(paused_reason, '') FROM postrider.subscriptions"), c.reason)
			})
			b.Exec("UPDATE postrider.subscriptions SET " + c.undo)
			b.Exec("SELECT postrider.resume('sub')")
			b.Publish("t", "", "1")
			b.settled(sub)
		})
	}
}

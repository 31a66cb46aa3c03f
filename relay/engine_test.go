package relay

import (
	"errors"
	"testing"

	"github.com/postrider/postrider/sinks"
)

func TestDeliversInEveryMode(t *testing.T) {
	t.Parallel()
	for _, follow := range []Follow{FollowStream, FollowTimer, FollowListen} {
		t.Run(string(follow), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if follow == FollowListen {
				b.Exec("SELECT postrider.enable_notify()")
			}
			all := b.subscribe("all", "{>}", "{}", "now")
			orders := b.subscribe("orders", "{orders.*}", "{}", "now")
			before := b.Publish("orders.created", "k1", `{"n": 1}`, `{"n": 2}`)
			r := b.start(func(c *Config) { c.Follow = follow })
			eventually(t, "what was published before the start is delivered", func() bool { return all.count() == 2 && orders.count() == 2 })
			after := b.Publish("orders.paid", "k1", `{"n": 3}`)
			b.Publish("other", "", `{"n": 4}`)
			eventually(t, "what was published live is delivered", func() bool { return all.count() == 4 && orders.count() == 3 })
			if err := r.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			r.stop()
			if r.err != nil {
				t.Fatalf("run: %v", r.err)
			}
			want := append(before, after...)
			for i, id := range orders.rows() {
				if id != want[i] {
					t.Errorf("delivery %d is row %d, want %d", i, id, want[i])
				}
			}
			if n := scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status <> 'delivered'"); n != 0 {
				t.Errorf("%d deliveries are not shown as delivered", n)
			}
			if n := scalar[int](b, "SELECT count(*) FROM postrider.relays"); n != 0 {
				t.Errorf("%d relays left after a clean stop", n)
			}
		})
	}
}

// Poolers that hand a server's session to another client after each transaction leave no prepared statement behind: the
// connection string then asks for a mode without them.
func TestDeliversWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			all := b.subscribe("all", "{>}", `{"backoff_initial": "1ms", "max_attempts": 2}`, "now")
			all.answer(func(d sinks.Delivery) error {
				if d.Topic == "bad" {
					return errors.New("refused")
				}
				return nil
			})
			b.Publish("good", "k", `1`, `2`)
			r := b.start(func(c *Config) {
				c.Follow = FollowTimer
				c.DatabaseURL += "&default_query_exec_mode=" + mode
			})
			b.Publish("bad", "k", `3`)
			b.Publish("good", "k", `4`)
			eventually(t, "the good ones are delivered", func() bool { return all.count() == 3 })
			eventually(t, "the bad one is dead", func() bool {
				return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'dead' AND attempts = 2") == 1
			})
			b.Exec("SELECT postrider.redrive('all', NULL)")
			all.answer(nil)
			eventually(t, "the bad one is delivered after all", func() bool { return all.count() == 4 })
			r.stop()
			if n := scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status <> 'delivered'"); n != 0 {
				t.Errorf("%d messages are not shown as delivered", n)
			}
		})
	}
}

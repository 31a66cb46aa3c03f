package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/states"
)

// park puts a message into the table that has been in a state for an age; the outbox holds it or not.
func (b *bench) park(subscription, state string, age time.Duration, inOutbox bool) (id int64) {
	b.t.Helper()
	id = scalar[int64](b, "SELECT nextval('postrider.outbox_id_seq')")
	if inOutbox {
		b.Exec("INSERT INTO postrider.outbox (id, topic, payload, created_at, xid) SELECT $1, 'none', '1', now() - $2::interval, '3'::xid8", id, age)
	}
	b.Exec(`INSERT INTO postrider.parked (subscription, id, state, created_at, parked_at, updated_at, topic, payload)
		SELECT $1, $2, $3, now() - $4::interval, now() - $4::interval, now() - $4::interval, 'a', '1'`, subscription, id, state, age)
	if inOutbox {
		b.Exec("UPDATE postrider.parked p SET created_at = o.created_at FROM postrider.outbox o WHERE o.id = p.id AND p.id = $1", id)
	}
	return id
}

func (b *bench) has(id int64) bool {
	b.t.Helper()
	return scalar[bool](b, fmt.Sprintf("SELECT EXISTS (SELECT FROM postrider.parked WHERE id = %d)", id))
}

// What is past its retention goes, also of subscriptions that nobody delivers, and is told once; all else stays.
func TestDeadAndDiscardedExpire(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("skip", "{a}", "{}", "now")
	b.subscribe("hold", "{a}", `{"on_dead": "hold"}`, "now")
	b.subscribe("paused", "{a}", "{}", "now")
	b.Exec("SELECT postrider.pause('paused')")
	var goes, stays []int64
	for _, name := range []string{"skip", "hold", "paused"} {
		for _, state := range []string{states.Dead, states.Discarded} {
			gone := []int64{b.park(name, state, 3*time.Hour, false), b.park(name, state, 2*time.Hour, false)}
			if name == "hold" && state == states.Dead {
				stays = append(stays, gone...)
			} else {
				goes = append(goes, gone...)
			}
			stays = append(stays, b.park(name, state, 3*time.Hour, true), b.park(name, state, 10*time.Minute, false))
		}
	}
	stays = append(stays, b.park("paused", states.Retrying, 3*time.Hour, false), b.park("paused", states.Held, 3*time.Hour, false), b.park("paused", states.Scheduled, 3*time.Hour, false))
	_, g := b.startWatched(func(c *Config) { c.DeadRetention, c.DiscardedRetention = time.Hour, time.Hour })
	eventually(t, "what is over to go", func() bool {
		for _, id := range goes {
			if b.has(id) {
				return false
			}
		}
		return true
	})
	eventually(t, "the log to tell", func() bool {
		return g.logged("dead messages past their retention removed") == 1 && g.logged("discarded messages past their retention removed") == 1
	})
	if g.logged("messages=4 retention=1h0m0s subscriptions=2 first.paused=2 first.skip=2") != 1 ||
		g.logged("messages=6 retention=1h0m0s subscriptions=3 first.hold=2 first.paused=2 first.skip=2") != 1 {
		t.Error("the log does not tell how many of which")
	}
	if n := g.sum("expired_total", states.Dead); n != 4 {
		t.Errorf("%v dead letters are counted, want 4", n)
	}
	for _, id := range stays {
		if !b.has(id) {
			t.Errorf("message %d is gone", id)
		}
	}
}

// Nothing goes unless that is set; the next relay with a retention finds it, in as many batches as it takes, past what has to stay.
func TestExpiryGoesOnPastWhatStays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("s", "{a}", "{}", "now")
	b.subscribe("hold", "{a}", `{"on_dead": "hold"}`, "now")
	const many = 2*maintain.ExpiryBatch + 10
	for _, name := range []string{"hold", "s"} { // in the order of updated_at
		b.Exec(`INSERT INTO postrider.parked (subscription, id, state, created_at, updated_at, topic, payload)
			SELECT $1, nextval('postrider.outbox_id_seq'), 'dead', now() - interval '1 day', now() - interval '1 day' + $2 * interval '1 hour', 'a', '1' FROM generate_series(1, $3::int)`,
			name, len(name)%4, many)
	}
	count := func(name string) int {
		return scalar[int](b, fmt.Sprintf("SELECT count(*) FROM postrider.parked WHERE subscription = '%s'", name))
	}
	relay, g := b.startWatched()
	eventually(t, "the relay", func() bool { return g.logged("msg=delivering") == 2 })
	relay.stop()
	if n := count("s"); n != many {
		t.Errorf("%d are left without a retention, want all", n)
	}
	b.start(func(c *Config) { c.DeadRetention = time.Hour })
	eventually(t, "all batches to go", func() bool { return count("s") == 0 })
	if n := count("hold"); n != many {
		t.Errorf("%d are left that hold their keys, want all", n)
	}
}

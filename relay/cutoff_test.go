package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
)

// backlog commits so many messages, of which one in a hundred has the topic wanted, and returns the ids of those.
func (b *bench) backlog(n int) []int64 {
	b.t.Helper()
	b.Exec(`INSERT INTO postrider.outbox (topic, key, payload)
		SELECT CASE WHEN g % 100 = 0 THEN 'wanted' ELSE 'other.thing' END, g % 7, '{"n": 1}' FROM generate_series(1, $1::int) g`, n)
	return scalar[[]int64](b, "SELECT array(SELECT id FROM postrider.outbox WHERE topic = 'wanted' ORDER BY id)")
}

// guard ends statements of the relay that take longer than a limit, as administrators' scripts and poolers do, with a function such
// as pg_cancel_backend.
func (b *bench) guard(end string, limit time.Duration) (ended func() int) {
	b.t.Helper()
	conn := b.DB.Conn(b.t)
	total, done := make(chan int, 1), make(chan struct{})
	total <- 0
	go func() {
		defer close(done)
		for async.Sleep(b.t.Context(), limit/10) {
			var n int
			err := conn.QueryRow(b.t.Context(), `SELECT count(`+end+`(pid)) FROM pg_stat_activity WHERE usename = $1 AND state = 'active'
				AND backend_type = 'client backend' AND clock_timestamp() - query_start > make_interval(secs => $2)`,
				b.Role, limit.Seconds()).Scan(&n)
			if err != nil {
				if b.t.Context().Err() == nil {
					b.t.Errorf("the guard: %v", err)
				}
				return
			}
			total <- <-total + n
		}
	}()
	b.t.Cleanup(func() { <-done })
	return func() int {
		n := <-total
		total <- n
		return n
	}
}

// Whatever limits a database or role sets for others, and whoever ends statements that take long: a backlog of which little matches
// arrives.
func TestReadsThatAreCutOff(t *testing.T) {
	t.Parallel()
	limits := map[string]string{"statement_timeout": "100ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "5ms", "transaction_timeout": "100ms"}
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		all := b.subscribe("wanted", "{wanted}", "{}", "earliest")
		ids := b.backlog(300_000)
		for name, value := range limits {
			if scalar[bool](b, "SELECT EXISTS (SELECT FROM pg_settings WHERE name = $1)", name) {
				b.Exec(fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", b.Role, name, value))
			}
		}
		_, g := b.startWatched()
		all.arrives(t, ids)
		if n := g.logged(health.CannotReadPage); n > 0 {
			t.Errorf("%d reads failed", n)
		}
	})
	for _, end := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			all := b.subscribe("wanted", "{wanted}", "{}", "earliest")
			ids := b.backlog(300_000)
			ended := b.guard(end, 30*time.Millisecond)
			r := b.start()
			all.arrives(t, ids)
			if !slices.IsSorted(all.rows()) && ended() == 0 {
				t.Error("out of order")
			}
			if ended() == 0 {
				t.Error("the guard ended nothing: the test shows nothing")
			}
			eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
		})
	}
}

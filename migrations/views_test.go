package migrations

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// progress is a subscription "s" whose messages are in every state that there is.
type progress struct {
	db   *pgtest.DB
	conn *pgx.Conn
	want map[int64]string
}

func newProgress(t *testing.T) progress {
	db := pgtest.New(t)
	p := progress{db, db.Conn(t), map[int64]string{}}
	open, stillOpen := begin(t, db.Conn(t)), begin(t, db.Conn(t))
	enqueue(t, p.conn, "a") // came before the start
	subscribe(t, p.conn, "s", "now", "a")
	p.enqueue(t, p.conn, "delivered") // visible in base
	lowButLate := p.enqueue(t, open, "pending")
	p.enqueue(t, stillOpen, "pending") // visible to nobody before the end
	settle(t, p.conn, "s")
	afterID := p.enqueue(t, p.conn, "delivered")
	pastAfterID := p.enqueue(t, p.conn, "pending") // in target, behind after_id
	exec(t, p.conn, `UPDATE postrider.cursors SET target = pg_current_snapshot(), after_id = $1`, afterID)
	commit(t, open)
	done := p.enqueue(t, p.conn, "delivered")
	exec(t, p.conn, `UPDATE postrider.cursors SET done = int8multirange(int8range($1, $1, '[]')), saved_at = clock_timestamp()`, done)
	for _, state := range []string{"retrying", "held", "scheduled", "dead", "discarded"} {
		park(t, p.conn, "s", p.enqueue(t, p.conn, state), state)
	}
	enqueue(t, p.conn, "b") // not meant for the subscription
	p.enqueue(t, p.conn, "pending")
	commit(t, stillOpen)
	if lowButLate >= afterID || pastAfterID <= afterID {
		t.Fatal("the ids are not in the order that the test needs")
	}
	return p
}

// enqueue makes a message and notes what its status is to be.
func (p progress) enqueue(t *testing.T, q querier, status string) int64 {
	t.Helper()
	id := enqueue(t, q, "a")
	p.want[id] = status
	return id
}

func TestDeliveries(t *testing.T) {
	p := newProgress(t)
	expect(t, p.conn, "s", p.want)
	// One message is found by its id without a walk through the log.
	if n := one[int](t, p.conn, `SELECT count(*) FROM postrider.deliveries WHERE subscription = 's' AND id = (SELECT id FROM postrider.parked WHERE state = 'dead')
		AND status = 'dead' AND attempts = 5 AND reason = 'why' AND topic = 'a' AND due IS NOT NULL`); n != 1 {
		t.Errorf("%d rows for the dead message, want 1", n)
	}
	// When the segments are emptied, what is parked is still shown.
	exec(t, p.conn, `TRUNCATE postrider.outbox`)
	for id, status := range p.want {
		if status == "delivered" || status == "pending" {
			delete(p.want, id)
		}
	}
	expect(t, p.conn, "s", p.want)
}

func TestSubscriptionStatus(t *testing.T) {
	p := newProgress(t)
	exec(t, p.conn, `INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '5f0c1d6e-0000-4000-8000-000000000001', 'r1', 'v')`)
	exec(t, p.conn, `UPDATE postrider.cursors SET owner = '5f0c1d6e-0000-4000-8000-000000000001', trouble = 'down'`)
	pending := int64(0)
	for _, status := range p.want {
		if status == "pending" {
			pending++
		}
	}
	type status struct {
		Owner, Trouble                                       string
		Lag, Retrying, Held, Scheduled, Dead, Discarded, Old int64
	}
	rows, err := p.conn.Query(t.Context(), `SELECT owner, trouble, lag_messages, retrying, held, scheduled, dead, discarded, (lag_seconds > 0)::int::int8
		FROM postrider.subscription_status WHERE name = 's'`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[status])
	if err != nil {
		t.Fatal(err)
	}
	if want := (status{"r1", "down", pending, 1, 1, 1, 1, 1, 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	exec(t, p.conn, `UPDATE postrider.outbox SET created_at = created_at - interval '1 hour' WHERE id IN
		(SELECT min(id) FROM postrider.deliveries GROUP BY status)`)
	if seconds := one[float64](t, p.conn, `SELECT lag_seconds FROM postrider.subscription_status`); seconds < 3600 || seconds > 3660 {
		t.Errorf("lag_seconds is %f, want an hour", seconds)
	}
	settle(t, p.conn, "s")
	if n := one[float64](t, p.conn, `SELECT lag_seconds + lag_messages FROM postrider.subscription_status`); n != 0 {
		t.Errorf("a subscription that has settled everything lags by %f", n)
	}
}

// A segment is held by any row that is not settled, whatever its topic: emptying it asks no more than that.
func TestSegmentsHeld(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	const insert = `INSERT INTO postrider.outbox (topic, payload, segment) VALUES ($1, '1', $2)`
	exec(t, conn, insert, "a", 3)
	settle(t, conn, "s")
	for i, topic := range []string{"a", "b", "a"} {
		exec(t, conn, insert, topic, []int{4, 5, 4}[i])
	}
	if n := one[int](t, conn, `SELECT segments_held FROM postrider.subscription_status`); n != 2 {
		t.Errorf("%d segments are held, want 2", n)
	}
}

// The regular expression of a subscription is made once, not once for each message.
func TestStatusIsCheap(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.*")
	exec(t, conn, `INSERT INTO postrider.outbox (topic, payload) SELECT 'a.b', '1' FROM generate_series(1, 2000)`)
	exec(t, conn, `SET track_functions = 'all'`)
	for _, view := range []string{"deliveries", "subscription_status"} {
		tx := begin(t, conn)
		const calls = `SELECT coalesce(sum(calls), 0)::int FROM pg_stat_xact_user_functions WHERE schemaname = 'postrider' AND funcname LIKE 'topic%'`
		before := one[int](t, tx, calls)
		exec(t, tx, `SELECT * FROM postrider.`+view)
		if n := one[int](t, tx, calls) - before; n < 1 || n > 2 {
			t.Errorf("%s: %d calls of topic functions for 2,000 messages", view, n)
		}
		commit(t, tx)
	}
}

package migrations

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// expect compares what the view says with want, all of it.
func expect(t *testing.T, q querier, name string, want map[int64]string) {
	t.Helper()
	if got := statuses(t, q, name); !maps.Equal(got, want) {
		t.Errorf("subscription %s: got %v, want %v", name, got, want)
	}
}

// Subscribing and enqueueing in one transaction: the message is to be delivered.
func TestSubscribeAndEnqueueInOneTransaction(t *testing.T) {
	for _, subscribeFirst := range []bool{true, false} {
		for _, xidEarly := range []bool{true, false} {
			for _, othersRun := range []bool{true, false} {
				t.Run(fmt.Sprintf("%t %t %t", subscribeFirst, xidEarly, othersRun), func(t *testing.T) {
					subscribeAndEnqueue(t, subscribeFirst, xidEarly, othersRun)
				})
			}
		}
	}
}

func subscribeAndEnqueue(t *testing.T, subscribeFirst, xidEarly, othersRun bool) {
	db := pgtest.New(t)
	conn, other := db.Conn(t), db.Conn(t)
	want := map[int64]string{}
	var running pgx.Tx
	if othersRun {
		running = begin(t, db.Conn(t))
		want[enqueue(t, running, "a")] = "pending"
	}
	enqueue(t, other, "a") // was before
	tx := begin(t, conn)
	if xidEarly {
		exec(t, tx, `SELECT pg_current_xact_id()`)
		enqueue(t, other, "a") // has a greater transaction id and was before
	}
	if subscribeFirst {
		subscribe(t, tx, "s", "now", "a")
	}
	want[enqueue(t, tx, "a")] = "pending"
	if !subscribeFirst {
		subscribe(t, tx, "s", "now", "a")
	}
	want[enqueue(t, other, "a")] = "pending"
	commit(t, tx)
	if othersRun {
		commit(t, running)
	}
	expect(t, conn, "s", want)
}

func TestStart(t *testing.T) {
	db := pgtest.New(t)
	conn, older := db.Conn(t), begin(t, db.Conn(t))
	open := enqueue(t, older, "a")
	before := enqueue(t, conn, "a")
	since := one[time.Time](t, conn, `SELECT clock_timestamp()`)
	after := enqueue(t, conn, "a")
	subscribe(t, conn, "earliest", "earliest", "a")
	subscribe(t, conn, "now", "now", "a")
	subscribe(t, conn, "time", since.Format(time.RFC3339Nano), "a")
	subscribe(t, conn, "future", "infinity", "a")
	commit(t, older)
	last := enqueue(t, conn, "a")
	const p = "pending"
	expect(t, conn, "earliest", map[int64]string{open: p, before: p, after: p, last: p})
	expect(t, conn, "now", map[int64]string{open: p, last: p})
	expect(t, conn, "time", map[int64]string{open: p, after: p, last: p})
	expect(t, conn, "future", map[int64]string{open: p, last: p})
}

// settle makes everything visible settled, as a relay's save does.
func settle(t *testing.T, q querier, name string) {
	t.Helper()
	exec(t, q, `UPDATE postrider.cursors SET base = pg_current_snapshot(), done = '{}', target = NULL, after_id = NULL WHERE subscription = $1`, name)
}

type fence struct{ Epoch, Version int64 }

func fenceOf(t *testing.T, q querier, name string) fence {
	t.Helper()
	return fence{
		one[int64](t, q, `SELECT epoch FROM postrider.cursors WHERE subscription = $1`, name),
		one[int64](t, q, `SELECT version FROM postrider.subscriptions WHERE name = $1`, name),
	}
}

func TestReplay(t *testing.T) {
	db := pgtest.New(t)
	conn, older := db.Conn(t), begin(t, db.Conn(t))
	excluded := enqueue(t, conn, "a")
	open := enqueue(t, older, "a")
	subscribe(t, conn, "s", "now", "a")
	early := enqueue(t, conn, "a")
	since := one[time.Time](t, conn, `SELECT clock_timestamp()`)
	late := enqueue(t, conn, "a")
	settle(t, conn, "s")
	exec(t, conn, `UPDATE postrider.cursors SET target = base, after_id = 3, done = '{[1,9)}'`)
	const p, d = "pending", "delivered"

	was := fenceOf(t, conn, "s")
	if !one[bool](t, conn, `SELECT postrider.replay('s', $1)`, since.Format(time.RFC3339Nano)) {
		t.Fatal("replay found no subscription")
	}
	if is := fenceOf(t, conn, "s"); is.Epoch <= was.Epoch || is.Version <= was.Version {
		t.Errorf("epoch and version were %v, are %v: want both raised", was, is)
	}
	expect(t, conn, "s", map[int64]string{early: d, late: p})
	commit(t, older) // was running when the cursor was set: not settled
	expect(t, conn, "s", map[int64]string{early: d, late: p, open: p})

	exec(t, conn, `SELECT postrider.replay('s', 'now')`)
	expect(t, conn, "s", map[int64]string{early: d, late: d, open: d})
	exec(t, conn, `SELECT postrider.replay('s', 'earliest')`)
	expect(t, conn, "s", map[int64]string{excluded: p, early: p, late: p, open: p})
	if one[bool](t, conn, `SELECT postrider.replay('none', 'now')`) {
		t.Error("replay found a subscription that does not exist")
	}
	refused(t, conn, `start "soon": must be now, earliest or a time`, `SELECT postrider.replay('s', 'soon')`)
}

// Set back, a subscription keeps what is pending, however old it is; set forth to a time, it skips that.
func TestReplayKeepsPending(t *testing.T) {
	db := pgtest.New(t)
	conn, older := db.Conn(t), begin(t, db.Conn(t))
	subscribe(t, conn, "s", "now", "a")
	pending := enqueue(t, older, "a")
	early := enqueue(t, conn, "a")
	since := one[time.Time](t, conn, `SELECT clock_timestamp()`)
	late := enqueue(t, conn, "a")
	settle(t, conn, "s")
	last := enqueue(t, conn, "a")
	commit(t, older)
	const p, d = "pending", "delivered"
	expect(t, conn, "s", map[int64]string{pending: p, early: d, late: d, last: p})
	exec(t, conn, `SELECT postrider.replay('s', $1)`, since.Format(time.RFC3339Nano))
	expect(t, conn, "s", map[int64]string{pending: p, early: d, late: p, last: p})
	exec(t, conn, `SELECT postrider.replay('s', 'earliest')`)
	exec(t, conn, `SELECT postrider.replay('s', $1)`, since.Format(time.RFC3339Nano))
	expect(t, conn, "s", map[int64]string{pending: d, early: d, late: p, last: p})
}

// A message with an exception stays one: a replay does not deliver it twice.
func TestReplayKeepsParked(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	id := enqueue(t, conn, "a")
	settle(t, conn, "s")
	park(t, conn, "s", id, "dead")
	exec(t, conn, `SELECT postrider.replay('s', 'earliest')`)
	expect(t, conn, "s", map[int64]string{id: "dead"})
}

// park makes the exception row of a message.
func park(t *testing.T, q querier, name string, id int64, state string) {
	t.Helper()
	exec(t, q, `INSERT INTO postrider.parked (subscription, id, state, attempts, due, reason, created_at, topic, key, payload, body, headers)
		SELECT $1, id, $3, 5, now(), 'why', created_at, topic, key, payload, body, headers FROM postrider.outbox WHERE id = $2`, name, id, state)
}

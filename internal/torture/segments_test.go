package torture

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// repeatable makes every transaction of applications and relays see the world as it was when it began, unless it asks for more.
const repeatable = `
ALTER ROLE app SET default_transaction_isolation = 'repeatable read';
ALTER ROLE relay SET default_transaction_isolation = 'repeatable read';
`

// reader begins a transaction that reads a table and then does nothing.
func (w *world) reader(t *testing.T, table string) *pgx.Conn {
	t.Helper()
	conn, err := connect(t.Context(), w.db.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	if _, err := conn.Exec(t.Context(), "BEGIN; SELECT count(*) FROM "+table); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Segments are emptied while applications write and relays are killed: only what is settled for everybody disappears, a reader
// that does nothing is not waited for, and no INSERT waits.
func TestSegments(t *testing.T) {
	t.Parallel()
	w := stage{Config: Config{Follow: "stream", Relays: 2}, prepare: repeatable + emptiedSchema}.set(t)
	w.play(t)
	before := w.measured(t)
	w.apps.start(context.WithoutCancel(t.Context()), kinds(w.Follow, false), 6) // less than relays can deliver on a busy machine, too
	t.Cleanup(w.apps.stop)
	endWatch := w.watchLocks(t)

	w.say("an idle reader of one segment: the others are emptied")
	one := w.reader(t, "postrider.outbox_3")
	w.awaitEmptied(t, 2)
	w.fault("kill", w.relays[0].kill)
	w.play(t)

	w.say("an idle reader of all segments: none is emptied, nobody waits")
	every := w.reader(t, "postrider.outbox")
	was := w.emptied(t)
	eventually(t, time.Minute, func() error {
		if w.ripe(t) < 2 {
			return fmt.Errorf("fewer than two segments are ripe")
		}
		return nil
	})
	if is := w.emptied(t); is != was {
		t.Errorf("%d segments were emptied under the eyes of a reader", is-was)
	}
	closeConn(every)
	w.awaitEmptied(t, 1)

	w.say("a subscription is paused: what it has not got stays")
	w.checkPaused(t)
	closeConn(one)
	w.awaitEmptied(t, 2)

	w.apps.stop()
	endWatch()
	w.finish(t, before)
	w.checkEmptied(t)
}

// ripe counts segments that have been old enough for so long that they would have been emptied if nothing stood against it.
func (w *world) ripe(t *testing.T) int {
	t.Helper()
	return value[int](t, w, `SELECT count(*)::int FROM (
		SELECT segment FROM postrider.outbox GROUP BY segment HAVING max(created_at) < clock_timestamp() - $1::interval) s`, retention+2*time.Second)
}

// checkPaused pauses a subscription for a while: the messages that wait for it only become more.
func (w *world) checkPaused(t *testing.T) {
	t.Helper()
	const waiting = `SELECT o.id FROM postrider.outbox o, postrider.cursors c, postrider.subscriptions s
		WHERE c.subscription = 'loose' AND s.name = 'loose' AND o.topic ~ postrider.topic_regex(s.topics)
		  AND NOT pg_visible_in_snapshot(o.xid, c.base) AND NOT c.done @> o.id
		  AND NOT coalesce(o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)`
	w.exec(t, "SELECT postrider.pause('loose')")
	eventually(t, time.Minute, func() error {
		n, err := one[int](t.Context(), w.db, `SELECT count(*)::int FROM postrider.cursors c WHERE subscription = 'loose'
			AND NOT EXISTS (SELECT FROM postrider.relays r WHERE r.incarnation = c.owner)`) // its owner may have been killed
		if err == nil && n == 0 {
			err = fmt.Errorf("loose is still delivered")
		}
		return err
	})
	seen := make(map[int64]bool)
	look := func() (ripe int) {
		ids, err := ask[int64](t.Context(), w.db, waiting)
		if err != nil {
			t.Fatal(err)
		}
		is := make(map[int64]bool, len(ids))
		for _, id := range ids {
			is[id] = true
		}
		for id := range seen {
			if !is[id] {
				t.Fatalf("row %d waited for the paused subscription and is gone", id)
			}
		}
		seen = is
		return w.ripe(t)
	}
	for look() < 2 {
		pause(t.Context(), 50*time.Millisecond)
	}
	look()
	if len(seen) == 0 {
		t.Error("nothing waits for the paused subscription")
	}
	w.say("%d messages waited for the paused subscription", len(seen))
	w.exec(t, "SELECT postrider.resume('loose')")
}

package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// Each class has a place of its own, and status, backlog, callbacks and replay go by the one of the message's class; what is no priority counts
// as the nearest.
func TestClassesHavePlacesOfTheirOwn(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	const relay = `'5f0c1d6e-0000-4000-8000-000000000001'`
	exec(t, conn, `SELECT postrider.subscribe('s', '{>}', 'stdout:', '{"priorities": true}')`)
	arrange := func() bool { return one[bool](t, conn, `SELECT postrider.arrange_classes('s', `+relay+`)`) }
	classes := func() string {
		return one[string](t, conn, `SELECT string_agg(class || ':' || epoch, ' ' ORDER BY class) FROM postrider.cursors WHERE owner = `+relay)
	}
	if arrange() {
		t.Error("classes were arranged for a relay that does not own them")
	}
	exec(t, conn, `UPDATE postrider.cursors SET owner = `+relay+`, done_ids = '{"{[1000,1001)}"}', done_first = '{-infinity}', done_last = '{infinity}'`)
	if !arrange() || arrange() || classes() != "1:1 2:1 3:1 4:1" {
		t.Fatalf("the cursors are %s", classes())
	}
	if n := one[int](t, conn, `SELECT count(*) FROM postrider.cursors WHERE done_ids = '{"{[1000,1001)}"}'`); n != 4 {
		t.Errorf("%d cursors know what was settled before, want 4", n)
	}
	for _, priority := range []int{1, 2, 3, 4, -5, 9} {
		exec(t, conn, `INSERT INTO postrider.outbox (topic, payload, priority) VALUES ('a', '1', $1)`, priority)
	}
	status := func() string {
		return one[string](t, conn, `SELECT string_agg(o.priority || ':' || d.status, ' ' ORDER BY o.priority) FROM postrider.deliveries d JOIN postrider.outbox o USING (id)`)
	}
	lag := func() string {
		return one[string](t, conn, `SELECT lag_messages || ' ' || lag_more FROM postrider.subscription_status`)
	}
	if got := status(); got != "-5:pending 1:pending 2:pending 3:pending 4:pending 9:pending" {
		t.Errorf("at first %s", got)
	}
	if got := lag(); got != "6 false" {
		t.Errorf("at first the lag is %s, want 6", got)
	}
	exec(t, conn, `UPDATE postrider.cursors SET base = pg_current_snapshot() WHERE class IN (1, 4)`)
	if got := status(); got != "-5:delivered 1:delivered 2:pending 3:pending 4:delivered 9:delivered" {
		t.Errorf("when classes 1 and 4 have come to the present: %s", got)
	}
	if got := lag(); got != "2 false" {
		t.Errorf("then the lag is %s, want 2", got)
	}
	for priority, want := range map[int]string{1: "over", 2: "early"} {
		if got := one[string](t, conn, `SELECT postrider.attempt_state('s', (SELECT id FROM postrider.outbox WHERE priority = $1), 7)`, priority); got != want {
			t.Errorf("a callback for a message of priority %d is %s, want %s", priority, got, want)
		}
	}
	exec(t, conn, `SELECT postrider.subscribe('s', '{>}', 'stdout:', '{}')`)
	if arrange() || classes() != "1:1 2:1 3:1 4:1" {
		t.Errorf("classes became one before they had come to one place: %s", classes())
	}
	exec(t, conn, `SELECT postrider.replay('s', 'earliest')`)
	if got := status(); got != "-5:pending 1:pending 2:pending 3:pending 4:pending 9:pending" {
		t.Errorf("after a replay %s", got)
	}
	if !arrange() || classes() != "0:2" {
		t.Errorf("in one place the cursors are %s, want one", classes())
	}
}

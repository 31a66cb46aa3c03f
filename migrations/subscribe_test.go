package migrations

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// Said again, a subscription is changed in place: what it has settled and what is parked stay, and other topics apply forward.
func TestSubscribeAgain(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	exec(t, conn, `UPDATE postrider.source SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	say := func(want, arguments string) {
		t.Helper()
		if got := one[string](t, conn, `SELECT postrider.subscribe('s', `+arguments+`)`); got != want {
			t.Errorf("subscribe('s', %s) says %s, want %s", arguments, got, want)
		}
	}
	before := enqueue(t, conn, "a")
	say("created", `'{a,b}', 'stdout:', '{"lanes": 2}', 'earliest'`)
	settled := enqueue(t, conn, "b")
	exec(t, conn, `UPDATE postrider.cursors SET done = int8multirange(int8range($1, $1, '[]')), saved_at = clock_timestamp()`, settled)
	exec(t, conn, `INSERT INTO postrider.parked (subscription, id, state, created_at, topic)
		SELECT 's', id, 'dead', created_at, topic FROM postrider.outbox WHERE id = $1`, before)
	state := func() string {
		return one[string](t, conn, `SELECT concat_ws(' ', s.topics, s.sink, s.settings, s.state, s.paused_reason, c.base, c.done, s.started,
			(SELECT count(*) FROM postrider.parked)) FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name`)
	}
	was, version := state(), one[int64](t, conn, `SELECT version FROM postrider.subscriptions`)
	say("unchanged", `'{b,a,a}', 'stdout:', '{"lanes": 2}', 'now'`)
	if now := state(); now != was || one[int64](t, conn, `SELECT version FROM postrider.subscriptions`) != version {
		t.Errorf("nothing has changed, but it is\n%s, was\n%s", now, was)
	}
	exec(t, conn, `SELECT postrider.pause('s', 'because')`)
	say("changed", `'{b,a}', 'https://host/hook'`)
	want := strings.NewReplacer("stdout:", "https://host/hook", `{"lanes": 2}`, "{}", "active", "paused because").Replace(was)
	if now := state(); now != want {
		t.Errorf("after a change of sink and settings it is\n%s, want\n%s", now, want)
	}
	epoch := one[int64](t, conn, `SELECT epoch FROM postrider.cursors`)
	say("changed", `'{c}', 'https://host/hook'`)
	if now := one[int64](t, conn, `SELECT epoch FROM postrider.cursors`); now != epoch+1 {
		t.Errorf("epoch %d after other topics, want %d", now, epoch+1)
	}
	later := enqueue(t, conn, "a")
	if got := statuses(t, conn, "s"); got[settled] != "delivered" || got[before] != "dead" || got[later] != "" {
		t.Errorf("other topics apply forward alone: %v", got)
	}
	refused(t, conn, "topics_are_patterns", `SELECT postrider.subscribe('s', '{}', 'stdout:')`)
	refused(t, conn, `22023 start "soon"`, `SELECT postrider.subscribe('s', '{a}', 'stdout:', start => 'soon')`)
}

// Two that subscribe at once, with one name: one creates, the other changes what that one created.
func TestSubscribeAtOnce(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `UPDATE postrider.source SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	first := begin(t, db.Conn(t))
	one[string](t, first, `SELECT postrider.subscribe('s', '{a}', 'stdout:')`)
	second, result := db.Conn(t), make(chan error, 1)
	var answer string
	go func() {
		result <- second.QueryRow(t.Context(), `SELECT postrider.subscribe('s', '{a}', 'https://host/hook')`).Scan(&answer)
	}()
	waitUntilBlocked(t, db.Conn(t), second, result)
	commit(t, first)
	if err := <-result; err != nil || answer != "changed" {
		t.Errorf("the second says %q, %v, want changed", answer, err)
	}
}

func TestPauseKeepsItsReason(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	for _, c := range []struct{ sql, want string }{
		{`SELECT postrider.pause('s')`, "-"},
		{`SELECT postrider.pause('s', 'first')`, "first"},
		{`SELECT postrider.pause('s')`, "first"},
		{`SELECT postrider.pause('s', 'second')`, "second"},
		{`SELECT postrider.resume('s')`, "-"},
		{`SELECT postrider.pause('s')`, "-"},
	} {
		exec(t, conn, c.sql)
		if got := one[string](t, conn, `SELECT coalesce(paused_reason, '-') FROM postrider.subscriptions`); got != c.want {
			t.Errorf("after %s the reason is %q, want %q", c.sql, got, c.want)
		}
	}
}

package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// A change of topics applies forward only: its snapshot is the border.
func TestTopicChangeAppliesForward(t *testing.T) {
	db := pgtest.New(t)
	conn, open := db.Conn(t), begin(t, db.Conn(t))
	subscribe(t, conn, "s", "earliest", "a")
	const p = "pending"
	a1, _ := enqueue(t, conn, "a"), enqueue(t, conn, "b")
	_, b2 := enqueue(t, open, "a"), enqueue(t, open, "b")

	was := fenceOf(t, conn, "s")
	tx := begin(t, conn)
	_, b3 := enqueue(t, tx, "a"), enqueue(t, tx, "b")
	exec(t, tx, `UPDATE postrider.subscriptions SET topics = '{b}'`)
	_, b4 := enqueue(t, tx, "a"), enqueue(t, tx, "b")
	commit(t, tx)
	commit(t, open)
	_, b5 := enqueue(t, conn, "a"), enqueue(t, conn, "b")
	expect(t, conn, "s", map[int64]string{a1: p, b2: p, b3: p, b4: p, b5: p})
	if is := fenceOf(t, conn, "s"); is != (fence{was.Epoch + 1, was.Version + 1}) {
		t.Errorf("epoch and version were %v, are %v: want both raised by one", was, is)
	}

	// Settled messages keep the topics of their time, also after further changes: a replay may come back to them.
	settle(t, conn, "s")
	exec(t, conn, `UPDATE postrider.subscriptions SET topics = '{c}'`)
	exec(t, conn, `UPDATE postrider.subscriptions SET topics = '{d,e}'`)
	d6 := enqueue(t, conn, "d")
	if lag := one[int64](t, conn, `SELECT lag_messages FROM postrider.subscription_status`); lag != 1 {
		t.Errorf("lag is %d, want 1", lag)
	}
	exec(t, conn, `SELECT postrider.replay('s', 'earliest')`)
	expect(t, conn, "s", map[int64]string{a1: p, b2: p, b3: p, b4: p, b5: p, d6: p})
	if lag := one[int64](t, conn, `SELECT lag_messages FROM postrider.subscription_status`); lag != 6 {
		t.Errorf("lag is %d, want 6", lag)
	}
	const remembered = `SELECT jsonb_array_length(earlier) FROM postrider.subscriptions`
	if n := one[int](t, conn, remembered); n != 3 {
		t.Errorf("%d earlier lists of topics are remembered, want 3", n)
	}
	// Without messages from before there is nothing to remember but the newest change.
	exec(t, conn, `TRUNCATE postrider.outbox`)
	exec(t, conn, `UPDATE postrider.subscriptions SET topics = '{f}'`)
	if n := one[int](t, conn, remembered); n != 1 {
		t.Errorf("%d earlier lists of topics are remembered, want 1", n)
	}
}

func TestChangesRaiseTheVersion(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	id := enqueue(t, conn, "a")
	for _, step := range []struct {
		sql            string
		epoch, version int64
	}{
		{`UPDATE postrider.subscriptions SET sink = 'stdout:x'`, 0, 1},
		{`UPDATE postrider.subscriptions SET settings = '{"lanes": 3}'`, 0, 1},
		{`UPDATE postrider.subscriptions SET topics = topics, sink = sink, settings = settings`, 0, 0},
		{`UPDATE postrider.subscriptions SET topics = '{b}'`, 1, 1},
		{`SELECT postrider.pause('s', 'too loud')`, 0, 1},
		{`SELECT postrider.pause('s', 'too loud')`, 0, 0},
		{`SELECT postrider.resume('s')`, 0, 1},
		{`SELECT postrider.resume('s')`, 0, 0},
		{`SELECT postrider.redrive('s')`, 0, 0},
		{`SELECT postrider.discard('s')`, 0, 0},
	} {
		was := fenceOf(t, conn, "s")
		exec(t, conn, step.sql)
		if is := fenceOf(t, conn, "s"); is != (fence{was.Epoch + step.epoch, was.Version + step.version}) {
			t.Errorf("%s: epoch and version were %v, are %v", step.sql, was, is)
		}
	}
	park(t, conn, "s", id, "dead")
	for _, sql := range []string{`SELECT postrider.redrive('s')`, `SELECT postrider.discard('s', ARRAY[(SELECT id FROM postrider.parked)])`} {
		was := fenceOf(t, conn, "s")
		exec(t, conn, sql)
		if is := fenceOf(t, conn, "s"); is.Version != was.Version+1 {
			t.Errorf("%s: version was %d, is %d", sql, was.Version, is.Version)
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	const state = `SELECT concat_ws('|', state, paused_reason) FROM postrider.subscription_status`
	for _, step := range []struct{ sql, want string }{
		{`SELECT postrider.pause('s', 'too loud')`, "paused|too loud"},
		{`SELECT postrider.resume('s')`, "active"},
		{`SELECT postrider.pause('s')`, "paused"},
	} {
		if !one[bool](t, conn, step.sql) {
			t.Errorf("%s found no subscription", step.sql)
		}
		if got := one[string](t, conn, state); got != step.want {
			t.Errorf("%s: got %s, want %s", step.sql, got, step.want)
		}
	}
	if one[bool](t, conn, `SELECT postrider.pause('none')`) || one[bool](t, conn, `SELECT postrider.resume('none')`) {
		t.Error("a subscription that does not exist was found")
	}
}

func TestRedriveAndDiscard(t *testing.T) {
	states := []string{"retrying", "held", "scheduled", "dead", "discarded"}
	for _, c := range []struct {
		sql  string
		n    int64
		want []string // of the messages parked in these states
	}{
		{`SELECT postrider.redrive('s')`, 1, []string{"retrying", "held", "scheduled", "retrying", "discarded"}},
		{`SELECT postrider.redrive('s', $1)`, 3, []string{"retrying", "held", "scheduled", "retrying", "retrying"}},
		{`SELECT postrider.discard('s')`, 1, []string{"retrying", "held", "scheduled", "discarded", "discarded"}},
		{`SELECT postrider.discard('s', $1)`, 4, []string{"discarded", "discarded", "discarded", "discarded", "discarded"}},
		{`SELECT postrider.redrive('none')`, 0, states},
		{`SELECT postrider.discard('other', $1)`, 0, states},
	} {
		t.Run(c.sql, func(t *testing.T) {
			conn := pgtest.New(t).Conn(t)
			subscribe(t, conn, "s", "now", ">")
			subscribe(t, conn, "other", "now", "none")
			var ids []int64
			want := map[int64]string{}
			for i, state := range states {
				id := enqueue(t, conn, state)
				park(t, conn, "s", id, state)
				ids, want[id] = append(ids, id), c.want[i]
			}
			var args []any
			if c.sql[len(c.sql)-3] == '$' {
				args = []any{ids}
			}
			if n := one[int64](t, conn, c.sql, args...); n != c.n {
				t.Errorf("returned %d, want %d", n, c.n)
			}
			expect(t, conn, "s", want)
			if n := one[int64](t, conn, `SELECT count(*) FROM postrider.parked WHERE state = 'retrying' AND topic <> 'retrying' AND (attempts <> 0 OR due > now())`); n != 0 {
				t.Errorf("%d redriven messages do not begin anew", n)
			}
		})
	}
}

func TestUnsubscribe(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a")
	park(t, conn, "s", enqueue(t, conn, "a"), "dead")
	if !one[bool](t, conn, `SELECT postrider.unsubscribe('s')`) || one[bool](t, conn, `SELECT postrider.unsubscribe('s')`) {
		t.Error("unsubscribe must be true, then false")
	}
	if n := one[int](t, conn, `SELECT (SELECT count(*) FROM postrider.cursors) + (SELECT count(*) FROM postrider.parked)`); n != 0 {
		t.Errorf("%d rows of the subscription are left", n)
	}
}

package relay

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/store"
)

// toil takes what there is for workers in SQL, and leaves the transaction open.
func (r *ring) toil(name string) (tx pgx.Tx, ids []int64) {
	r.t.Helper()
	tx, err := r.DB.Conn(r.t).Begin(r.t.Context())
	mend(r.t, err)
	for range 3 { // a call may begin with a shard that has nothing
		rows, err := tx.Query(r.t.Context(), "SELECT id FROM postrider.take($1, 100)", name)
		mend(r.t, err)
		got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		mend(r.t, err)
		ids = append(ids, got...)
	}
	return tx, ids
}

func (r *ring) ends(tx pgx.Tx) {
	r.t.Helper()
	mend(r.t, tx.Commit(r.t.Context()))
}

// A worker keeps the segments that it has read until it commits. One after another they would keep a segment for ever: those that come
// after it was closed leave it out.
func TestRetentionDoesNotWaitForWorkers(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	const old = 2 * time.Hour
	r.Exec(`SELECT postrider.subscribe('w', '{>}', 'sql:', '{"shards": 1}')`)
	r.fill(2, old, old)
	r.empties("not taken yet", 2, false)
	first, ids := r.toil("w")
	if len(ids) != 2 {
		t.Fatalf("taken: %v", ids)
	}
	r.empties("taken, not committed", 2, false)
	r.ends(first)
	r.Publish("a", "", "1")
	second, _ := r.toil("w") // looks into all segments, this one too
	if got, err := r.Empty(t.Context(), 2, r.keep); got != store.SegmentInUse || err != nil {
		t.Errorf("while a worker has it: %v, %v", got, err)
	}
	r.Publish("a", "", "1")
	r.ends(second)
	third, ids := r.toil("w")
	if len(ids) != 1 {
		t.Errorf("taken while a segment is closed: %v", ids)
	}
	r.empties("closed, and a worker is at work", 2, true)
	r.ends(third)
	if open := scalar[bool](r.bench, "SELECT closing IS NULL FROM postrider.source"); !open {
		t.Error("the segment is still closed when it has been emptied")
	}
}

// What somebody inserts late into a segment that is closed comes before what follows it in its key, and keeps the segment until it is taken.
func TestLateRowsInClosedSegments(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	const old = 2 * time.Hour
	r.Exec(`SELECT postrider.subscribe('w', '{>}', 'sql:', '{"shards": 1}')`)
	r.fill(2, old)
	tx, _ := r.toil("w")
	r.ends(tx)
	r.Publish("a", "", "1")
	holder, _ := r.toil("w")
	r.empties("a worker has it", 2, false)
	r.ends(holder)
	r.fill(2, old) // the statement began when the segment was current
	want := []int64{scalar[int64](r.bench, "SELECT max(id) FROM postrider.outbox_2")}
	want = append(want, r.Publish("a", "", "1")...)
	if status := scalar[string](r.bench, "SELECT string_agg(status, ' ') FROM postrider.deliveries WHERE status <> 'delivered'"); status != "pending pending" {
		t.Errorf("the late row and the next are %q, want pending", status)
	}
	tx, ids := r.toil("w")
	if !slices.Equal(ids, want) {
		t.Errorf("taken while the segment is closed: %v, want %v", ids, want)
	}
	if got, err := r.Empty(t.Context(), 2, r.keep); got != store.SegmentNeeded || err != nil {
		t.Errorf("while its late row is being worked on: %v, %v", got, err)
	}
	r.ends(tx)
	r.Publish("a", "", "1")
	tx, _ = r.toil("w")
	r.ends(tx)
	r.empties("all is taken", 2, true)
}

// While a relay runs, no idle subscription of workers holds segments or has to look at what others got.
func TestRelaysRaiseFloors(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec(`SELECT postrider.subscribe('idle', '{x.>}', 'sql:'), postrider.subscribe('busy', '{a.>}', 'sql:'), postrider.subscribe('other', '{>}', 'stdout:')`)
	for range 1100 {
		b.Exec(`INSERT INTO postrider.outbox (topic, payload) VALUES ('a.b', '1')`)
	}
	floors := store.Floors{Pool: b.OnePool()}
	if n, err := floors.Raise(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d floors raised, %v, want 1", n, err)
	}
	if n, err := floors.Raise(t.Context()); n != 0 || err != nil {
		t.Errorf("%d floors raised for nothing, %v", n, err)
	}
	const behind = `SELECT count(*) FROM postrider.outbox o, postrider.shard_bases() b WHERE NOT pg_visible_in_snapshot(o.xid, b::pg_snapshot)`
	if n := scalar[int](b, `SELECT count(*) FROM postrider.shard_bases()`); n != 2 {
		t.Errorf("%d different bases, want 2", n)
	}
	if n := scalar[int](b, behind); n != 1100 {
		t.Errorf("%d messages are behind some base, want those of the busy subscription", n)
	}
	ids := b.Publish("x.y", "", "1")
	b.Exec(`UPDATE postrider.subscriptions SET topics = '{x.>,y}' WHERE name = 'idle'`) // a floor of another version is none
	b.Publish("y", "", "1")
	conn := b.DB.Conn(t)
	got := 0
	for range 10 {
		got += takenNow(t, conn, "idle")
	}
	if got != 2 || len(ids) != 1 {
		t.Errorf("%d messages taken, want 2", got)
	}
}

func takenNow(t *testing.T, conn *pgx.Conn, name string) (n int) {
	t.Helper()
	mend(t, conn.QueryRow(context.WithoutCancel(t.Context()), "SELECT count(*) FROM postrider.take($1, 100)", name).Scan(&n))
	return n
}

// A relay leaves alone what workers come for: it opens no sink for it and owns nothing of it.
func TestRelaysLeaveWorkersAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec(`SELECT postrider.subscribe('w', '{>}', 'sql:')`)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, _ := b.startAt(FollowTimer)
	b.Publish("a", "", "1")
	wantPayloads(t, all, "1")
	if state := scalar[string](b, "SELECT state || coalesce(paused_reason, '') || coalesce(owner, '') || lag_messages FROM postrider.subscription_status WHERE name = 'w'"); state != "active1" {
		t.Errorf("the workers' subscription is %q", state)
	}
	if n := scalar[int](b, "SELECT count(*) FROM postrider.take('w')"); n != 1 {
		t.Errorf("%d messages taken", n)
	}
	r.stop()
}

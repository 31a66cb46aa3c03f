package relay

import (
	"context"
	"testing"
)

// A command that somebody leaves open in a session delays the saves of its own subscription and of no other.
func TestLockedCursorDelaysNoOther(t *testing.T) {
	b := newBench(t)
	locked := b.subscribe("locked", "{>}", "{}", "now")
	other := b.subscribe("other", "{>}", "{}", "now")
	r := b.start()
	b.Publish("a", "", `1`)
	eventually(t, "both deliver", func() bool { return locked.count() == 1 && other.count() == 1 })

	tx, err := b.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT postrider.redrive('locked', '{}'), * FROM postrider.cursors WHERE subscription = 'locked' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	b.Publish("a", "", `2`, `3`)
	const status = "SELECT count(*) FROM postrider.deliveries WHERE subscription = $1 AND status = 'delivered'"
	eventually(t, "the other's progress is saved", func() bool { return scalar[int](b, status, "other") == 3 })
	eventually(t, "the locked one delivers all the same", func() bool { return locked.count() == 3 })
	if n := scalar[int](b, status, "locked"); n == 3 {
		t.Error("the locked cursor was saved")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its progress is saved after all", func() bool { return scalar[int](b, status, "locked") == 3 })
	r.stop()
	if locked.count() != 3 || other.count() != 3 {
		t.Errorf("delivered %d and %d messages, want 3 each", locked.count(), other.count())
	}
}

// What was saved id by id before its window had closed goes into the base soon after, though nothing more is delivered: segments
// wait for bases.
func TestBaseFollowsWhatWasSavedBeyondIt(t *testing.T) {
	b := newBench(t)
	rec := b.subscribe("one", "{>}", "{}", "now")
	b.start()
	const behind = `SELECT count(*) FROM postrider.outbox o, postrider.cursors c WHERE NOT pg_visible_in_snapshot(o.xid, c.base)`
	for n := 1; n <= 5; n++ {
		b.Publish("a", "", `1`)
		eventually(t, "it is delivered", func() bool { return rec.count() == n })
		eventually(t, "the base sees it", func() bool { return scalar[int](b, behind) == 0 })
	}
}

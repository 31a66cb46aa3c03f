package migrations

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/internal/pgtest"
)

// model is a snapshot as the set of transactions that it sees, of ids 3 to 14.
type model struct {
	xmax    int
	running []int
}

const lastXid = 14

func (m model) sees(x int) bool { return x < m.xmax && !slices.Contains(m.running, x) }

func (m model) xids() (list []string) {
	list = []string{}
	for _, x := range m.running {
		list = append(list, fmt.Sprint(x))
	}
	return list
}

var models = rapid.Custom(func(t *rapid.T) model {
	xid := rapid.IntRange(3, lastXid)
	return model{xid.Draw(t, "xmax"), rapid.SliceOfN(xid, 0, 6).Draw(t, "running")}
})

const makeSnapshot = `postrider.make_snapshot(%s::text::xid8, %s::text[]::xid8[])`

func TestMakeSnapshot(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	sql := fmt.Sprintf(`SELECT array_agg(pg_visible_in_snapshot(x::text::xid8, s) ORDER BY x) FROM `+makeSnapshot+` s, generate_series(3, %d) x GROUP BY s::text`, "$1", "$2", lastXid)
	rapid.Check(t, func(r *rapid.T) {
		m := models.Draw(r, "snapshot")
		got := one[[]bool](t, conn, sql, fmt.Sprint(m.xmax), m.xids())
		for i, visible := range got {
			if visible != m.sees(i+3) {
				r.Fatalf("%v: xid %d is visible: %t", m, i+3, visible)
			}
		}
	})
}

func TestSnapshotCovers(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	sql := fmt.Sprintf(`SELECT postrider.snapshot_covers(`+makeSnapshot+`, `+makeSnapshot+`)`, "$1", "$2", "$3", "$4")
	rapid.Check(t, func(r *rapid.T) {
		a, b := models.Draw(r, "a"), models.Draw(r, "b")
		want := true
		for x := 3; x <= lastXid; x++ {
			want = want && (a.sees(x) || !b.sees(x))
		}
		if got := one[bool](t, conn, sql, fmt.Sprint(a.xmax), a.xids(), fmt.Sprint(b.xmax), b.xids()); got != want {
			r.Fatalf("%v covers %v: %t, want %t", a, b, got, want)
		}
	})
}

// The calling transaction counts as running, or as ended, whatever younger ones do.
func TestSnapshotsAroundMe(t *testing.T) {
	db := pgtest.New(t)
	conn, other, running := db.Conn(t), db.Conn(t), begin(t, db.Conn(t))
	const before = `SELECT pg_visible_in_snapshot($1::text::xid8, postrider.snapshot_before_me())`
	const after = `SELECT pg_visible_in_snapshot($1::text::xid8, postrider.snapshot_after_me())`
	const myXid = `SELECT pg_current_xact_id()::text`
	open := one[string](t, running, myXid)
	younger := begin(t, db.Conn(t))
	tx := begin(t, conn)
	check := func(xid string, seenBefore, seenAfter bool) {
		t.Helper()
		if got := one[bool](t, tx, before, xid); got != seenBefore {
			t.Errorf("transaction %s is seen before me: %t", xid, got)
		}
		if got := one[bool](t, tx, after, xid); got != seenAfter {
			t.Errorf("transaction %s is seen after me: %t", xid, got)
		}
	}
	inBetween := one[string](t, younger, myXid)
	me := one[string](t, tx, myXid)
	check(me, false, true)
	check(open, false, false)
	check(inBetween, false, false)
	check(one[string](t, other, myXid), true, true)
	check(me, false, true)
	check(inBetween, false, false)
	commit(t, younger)
	check(inBetween, true, true)
	later := begin(t, db.Conn(t)) // runs while one that has begun after it has ended
	begunLater := one[string](t, later, myXid)
	check(one[string](t, other, myXid), true, true)
	check(begunLater, false, false)
	check(me, false, true)
	commit(t, later)
	inner := begin(t, tx)
	if one[bool](t, inner, before, me) || !one[bool](t, inner, after, me) {
		t.Error("in a savepoint, the own transaction is mistaken")
	}
	commit(t, inner)
	commit(t, tx)
	commit(t, running)
}

package store

import (
	"context"
	"testing"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

func TestOneScanPassesFewRows(t *testing.T) {
	var n nearness
	// step reads a window from where the last one ended, unless from is another, and says whether one scan is enough.
	step := func(what string, from snapshot.Snapshot, want bool, to snapshot.Snapshot, rows int) {
		t.Helper()
		if got := n.passesLittle(from); got != want {
			t.Errorf("%s: from %s one scan is enough: %v", what, from, got)
		}
		n.read(to, rows)
	}
	at := func(xmax uint64, xip ...uint64) snapshot.Snapshot { return snapshot.Snapshot{Xmax: xmax, Xip: xip} }
	step("first", at(100, 90), false, at(110, 90, 105), 1)
	step("one that ran before the first", at(110, 90, 105), false, at(120, 105), 1)
	step("one that has begun since", at(120, 105), true, at(130, 105), nearRows)
	step("few rows are passed", at(130, 105), true, at(140, 105), nearRows+1)
	step("many rows would be", at(140, 105), false, at(150, 105), 1)
	step("still", at(150, 105), false, at(160), 1)
	step("nobody runs", at(160), true, at(170, 165), 1)
	step("after the many", at(170, 165), true, at(170+nearIDs, 170), 1)
	step("as far as it goes", at(170+nearIDs, 170), true, at(171+nearIDs, 170), 1)
	step("too far", at(171+nearIDs, 170), false, at(300, 299), 1)
	step("back", at(300, 299), true, at(310, 309), 1)
	step("windows in between were read by others", at(320, 315), false, at(330, 325), 1)
	step("since then none", at(330, 325), true, at(340), 1)
	step("nobody runs, whatever lies before", at(500), true, at(510), 1)
}

// A look takes down what it has read, and what it reads is the same in both ways.
func TestLooksCountWhatAScanPasses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o := b.outboxReader()
	running, err := b.App.Begin(t.Context())
	mend(t, err)
	defer running.Rollback(context.WithoutCancel(t.Context()))
	_, err = running.Exec(t.Context(), "SELECT postrider.enqueue('a', '1')")
	mend(t, err)
	look := func(base snapshot.Snapshot, want int) (to snapshot.Snapshot) {
		t.Helper()
		rows := 0
		to, _, err := o.ReadWindow(t.Context(), base, false, func(*message.Row) error { rows++; return nil })
		mend(t, err)
		if rows != want {
			t.Errorf("%d rows from %s to %s, want %d", rows, base, to, want)
		}
		return to
	}
	base, _, err := o.Tick(t.Context())
	mend(t, err)
	var want nearness
	for _, rows := range []int{1, 2, nearRows + 1, 1} {
		b.Exec("INSERT INTO postrider.outbox (topic, payload) SELECT 'a', '1' FROM generate_series(1, $1)", rows)
		want.passesLittle(base) // or not: others run transactions on this server, too
		base = look(base, rows)
		want.read(base, rows)
	}
	if !o.near.last.Equal(want.last) || o.near.few != want.few {
		t.Errorf("it knows %+v, want %+v", o.near, want)
	}
	mend(t, running.Commit(t.Context()))
	base = look(base, 1)
	b.Exec("SELECT postrider.enqueue('a', '1')")
	if all := (snapshot.Snapshot{Xmax: base.Xmax}); !o.near.passesLittle(all) {
		t.Errorf("from %s, which no transaction ran at, one scan is not enough", all)
	} else {
		look(all, 1)
	}
}

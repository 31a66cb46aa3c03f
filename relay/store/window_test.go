package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

func snapshotOf(t *testing.T, conn *pgx.Conn) snapshot.Snapshot {
	t.Helper()
	var text string
	mend(t, conn.QueryRow(t.Context(), "SELECT pg_current_snapshot()::text").Scan(&text))
	s, err := snapshot.Parse(text)
	mend(t, err)
	return s
}

// ledger collects what a chain of windows read.
type ledger struct {
	t    *testing.T
	seen map[int64]int
}

// window takes one window's rows in, which must lie between its snapshots.
func (l *ledger) window(from, to snapshot.Snapshot, rows []*message.Row) {
	l.t.Helper()
	for _, r := range rows {
		l.seen[r.ID]++
		if from.Sees(r.XID) || !to.Sees(r.XID) {
			l.t.Errorf("row %d of transaction %d is not in the window from %s to %s", r.ID, r.XID, from, to)
		}
		if r.Topic[0] != 'g' {
			l.t.Errorf("row %d with topic %s was rolled back, but read", r.ID, r.Topic)
		}
	}
	if !to.Covers(from) {
		l.t.Errorf("snapshot %s does not cover the earlier %s", to, from)
	}
	if !slices.IsSortedFunc(rows, func(a, b *message.Row) int { return int(a.ID - b.ID) }) {
		l.t.Errorf("rows of the window from %s to %s are not in order", from, to)
	}
}

// settle compares what was read with what is there.
func (l *ledger) settle(b *bench, where string) {
	l.t.Helper()
	rows, err := b.Admin.Query(l.t.Context(), "SELECT id FROM postrider.outbox WHERE "+where)
	mend(l.t, err)
	committed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	mend(l.t, err)
	if len(committed) == 0 || len(l.seen) != len(committed) {
		l.t.Errorf("%d rows read, %d committed", len(l.seen), len(committed))
	}
	for _, id := range committed {
		if n := l.seen[id]; n != 1 {
			l.t.Errorf("row %d was read %d times", id, n)
		}
	}
}

// readWindow is what the feed's reading ticks, in both ways, and its audit do, in one look.
func readWindow(ctx context.Context, o *OutboxReader, from snapshot.Snapshot) (to snapshot.Snapshot, rows []*message.Row, counted map[uint64]int, err error) {
	var t tick
	counted = make(map[uint64]int)
	var near []int64
	err = o.Session.run(ctx, beginRead, byIndex, tickCall(o.Incarnation, &t),
		call{statement: windowRows.whole, args: windowArgs(from), binary: true, row: toRow(o.Decoder, func(r *message.Row) error {
			rows = append(rows, r)
			return nil
		})},
		call{statement: nearWindowRows.whole, args: nearWindowArgs(from), binary: true, row: toRow(o.Decoder, func(r *message.Row) error {
			near = append(near, r.ID)
			return nil
		})},
		call{statement: countWindow, args: windowArgs(from), binary: true, row: func(values [][]byte) error {
			counted[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, commit)
	if err == nil && !slices.EqualFunc(rows, near, func(r *message.Row, id int64) bool { return r.ID == id }) {
		err = fmt.Errorf("from %s to %s there are %d rows, of which one scan finds %d", from, t.snapshot, len(rows), len(near))
	}
	return t.snapshot, rows, counted, err
}

func TestWindowsReadEachCommittedRowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o, at := b.outboxReader(), snapshotOf(t, b.DB.Conn(t))
	p, ledger := newProducers(b), &ledger{t, make(map[int64]int)}
	done := make(chan error, 1)
	go func() { done <- p.run(t.Context(), 8, 40) }()

	windows, overtaken := 0, 0
	for last := false; !last; windows++ {
		select {
		case err := <-done:
			mend(t, err)
			last = true
		default:
		}
		to, rows, counted, err := readWindow(t.Context(), o, at)
		if err != nil {
			p.finish()
			t.Fatal(err)
		}
		ledger.window(at, to, rows)
		for _, r := range rows {
			if counted[r.XID]--; counted[r.XID] == 0 {
				delete(counted, r.XID)
			}
			if r.XID < at.Xmax {
				overtaken++ // from the branch of transactions that were running
			}
		}
		if len(counted) > 0 {
			t.Errorf("the window from %s to %s was counted otherwise than it was read: %v", at, to, counted)
		}
		at = to
		p.next()
	}
	ledger.settle(b, "true")
	if windows < 20 || overtaken < 10 {
		t.Errorf("only %d windows, %d rows of transactions that older snapshots had listed: the test shows little", windows, overtaken)
	}
	t.Logf("%d rows in %d windows, %d of them of older transactions", len(ledger.seen), windows, overtaken)
}

package pgq

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/systemtest"
	"github.com/postrider/postrider/internal/pgtest"
)

func TestMain(m *testing.M) { systemtest.Main(m) }

func TestAllArrive(t *testing.T) { systemtest.AllArrive(t, Systems()) }

// turnsTest is what a test of the tables works with.
type turnsTest struct {
	*testing.T
	*method
	*consumer
	open pgx.Tx // a transaction that has inserted an event
}

func newTurnsTest(t *testing.T) *turnsTest {
	db := pgtest.Empty(t)
	w := &turnsTest{T: t, method: &method{}, consumer: &consumer{conn: db.Conn(t)}}
	err := w.Install(t.Context(), system.Place{Database: db.URL()})
	if err == nil {
		w.open, err = db.Conn(t).Begin(t.Context())
	}
	w.check(err)
	return w
}

func (w *turnsTest) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// fill inserts events, and has the open transaction insert one.
func (w *turnsTest) fill(n int) {
	w.Helper()
	w.check(w.Enqueue(w.Context(), w.open, []system.Message{{N: 9000, Topic: fillTopic}}))
	w.check(w.Fill(w.Context(), w.conn, n))
}

func (w *turnsTest) want(sql string, want any) {
	w.Helper()
	var got any
	if err := w.conn.QueryRow(w.Context(), sql).Scan(&got); err != nil || got != want {
		w.Errorf("%s: %v, %v, want %v", sql, got, err, want)
	}
}

// batch is the next one; nil: there is none.
func (w *turnsTest) batch() *batch {
	w.Helper()
	b, err := w.next(w.Context())
	w.check(err)
	return b
}

// finish takes a batch and those after it, and wants so many events in them.
func (w *turnsTest) finish(b *batch, want int) {
	w.Helper()
	n := 0
	for ; b != nil; b = w.batch() {
		rows, err := w.conn.Query(w.Context(), events, b.from, b.to, b.open)
		w.check(err)
		ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id int64, err error) {
			var topic, payload any
			return id, row.Scan(&id, &topic, &payload)
		})
		w.check(err)
		n += len(ids)
		_, err = w.conn.Exec(w.Context(), "UPDATE ticks.consumer SET last = $1", b.tick)
		w.check(err)
	}
	if n != want {
		w.Errorf("%d events came, want %d", n, want)
	}
}

// TestBatches: an event comes with the tick that sees it, whatever is committed until it is read.
func TestBatches(t *testing.T) {
	w := newTurnsTest(t)
	w.fill(200)
	w.finish(w.batch(), 200)
	w.fill(30) // it was open at the tick before, and still is
	b := w.batch()
	w.check(w.open.Commit(w.Context()))
	rows, err := w.conn.Query(w.Context(), events, b.from, b.to, b.open)
	w.check(err)
	for rows.Next() {
	}
	w.check(rows.Err())
	if n := rows.CommandTag().RowsAffected(); n != 30 {
		t.Errorf("%d events came with a tick that sees 30", n)
	}
	w.finish(b, 32)
	late := newTx(w)
	w.check(w.Enqueue(w.Context(), late, []system.Message{{N: 9001, Topic: fillTopic}}))
	w.check(w.Fill(w.Context(), w.conn, 7))
	b = w.batch() // which does not see the late one, that began after the tick before
	w.check(late.Commit(w.Context()))
	w.finish(b, 8)
}

// newTx begins one over a connection of its own.
func newTx(w *turnsTest) pgx.Tx {
	conn, err := pgx.ConnectConfig(w.Context(), w.conn.Config())
	w.check(err)
	w.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			w.Error(err)
		}
	})
	tx, err := conn.Begin(w.Context())
	w.check(err)
	return tx
}

// TestTurns: tables take turns, and none is emptied that holds what the consumer has not had, or that somebody may still write into.
func TestTurns(t *testing.T) {
	w := newTurnsTest(t)
	w.fill(200)
	w.finish(w.batch(), 200)
	w.want("SELECT ticks.rotate('1 hour')", false)
	w.want("SELECT ticks.rotate('0')", true) // who wrote before the first table was current has ended
	w.finish(w.batch(), 0)
	w.want("SELECT ticks.rotate('0')", false) // the open transaction has begun before
	w.check(w.open.Commit(w.Context()))
	w.check(w.Fill(w.Context(), w.conn, 30))
	w.want("SELECT ticks.rotate('0')", false) // what it wrote is not consumed
	w.finish(w.batch(), 31)
	w.want("SELECT ticks.rotate('0')", true)
	w.want("SELECT count(*) FROM ticks.event_0", int64(201))
	w.check(w.Fill(w.Context(), w.conn, 1))
	w.finish(w.batch(), 1)
	w.want("SELECT ticks.rotate('0')", true)
	w.want("SELECT count(*) FROM ticks.event_0", int64(0))
	w.want("SELECT count(*) FROM ticks.event_1", int64(30))
	w.want("SELECT count(*) FROM ticks.event_2", int64(1))
}

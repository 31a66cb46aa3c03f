package delivery

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// pageValues is a row of a page in PostgreSQL's binary format.
func pageValues(key string) *[len(message.Columns)][]byte {
	row := map[string][]byte{"id": bigEndian(1), "xid": bigEndian(99), "created_at": bigEndian(845_000_000_000_000),
		"topic": []byte("bench.t1"), "payload": []byte("\x01" + benchPayload)}
	if key != "" {
		row["key"] = []byte(key)
	}
	values := new([len(message.Columns)][]byte)
	for i, column := range message.Columns {
		values[i] = row[column]
	}
	return values
}

// One message of a pass from the connection's buffer to settled progress, without socket, database and sink: decoded, admitted,
// batched, handed over to a lane and back.
func BenchmarkPassPath(b *testing.B) {
	for _, c := range []struct{ keys, lanes, batch int }{{0, 4, 256}, {1000, 4, 256}, {0, 64, 1}} {
		b.Run(fmt.Sprintf("keys=%d/lanes=%d/batch=%d", c.keys, c.lanes, c.batch), func(b *testing.B) {
			benchPass(b, c.keys, c.lanes, c.batch)
		})
	}
}

func benchPass(b *testing.B, keys, lanes, batch int) {
	f, share := benchFeed()
	r := benchRunner(b, f, share, subscription.OrderByKey, lanes, batch)
	r.intakes[0].endQueue()
	r.intakes[0].pass.reader = &passReader{pages: make(chan store.Page, 1)}
	r.intakes[0].prog.StartPass(snapshot.Snapshot{Xmax: 100}, 0, true)
	d := message.NewDecoder("0123abcd")
	values := []*[len(message.Columns)][]byte{pageValues("")}
	for i := range keys {
		values = append(values, pageValues(fmt.Sprintf("customer-%d", i)))
	}
	if keys > 0 {
		values = values[1:]
	}
	var rows []*message.Row
	n := 0
	deliver := func() {
		r.intakes[0].pass.reader.pages <- store.Page{Rows: rows}
		rows = nil
		for r.step(time.Now()); len(r.intakes[0].pass.reader.pages) > 0 || len(r.intakes[0].pass.page.Rows) > 0 || r.lanes.tasks > 0; r.step(time.Now()) {
			<-r.Life.wakeup
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		v := values[n%len(values)]
		n++
		binary.BigEndian.PutUint64(v[0], uint64(n))
		row, err := d.Decode(v)
		if err != nil {
			b.Fatal(err)
		}
		if rows = append(rows, row); len(rows) == pageRows {
			deliver()
		}
	}
	b.StopTimer()
	deliver()
	if got := r.Env.Sink.(*accepting).n.Load(); got != int64(n) || r.intakes[0].prog.Done > 0 {
		b.Fatalf("%d of %d messages were delivered, %d are left beyond the rest", got, n, r.intakes[0].prog.Done)
	}
}

// One batch to a lane and back, the runner's goroutine being woken for it.
func BenchmarkLaneHandOver(b *testing.B) {
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			f, share := benchFeed()
			r := benchRunner(b, f, share, subscription.OrderNone, 1, size)
			l := r.lanes.all[0]
			tasks := make([]*task, size)
			for i := range tasks {
				tasks[i] = &task{row: &message.Row{Message: sinks.Message{ID: int64(i)}}}
			}
			b.ReportAllocs()
			for b.Loop() {
				l.batch = append(l.batch[:0], tasks...)
				l.send(r, time.Now())
				<-r.Life.wakeup
				for _, l := range r.lanes.collectFinished() {
					l.busy = false
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/message")
		})
	}
}

func bigEndian(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

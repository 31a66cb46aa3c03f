package relay

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/progress"
	"github.com/postrider/postrider/relay/snapshot"
)

// Rows of a pass, settled by eight lanes that are one batch apart.
func BenchmarkProgressPass(b *testing.B) {
	p := progress.New(snapshot.Position{})
	p.StartPass(snapshot.Snapshot{Xmax: 10}, 0, true)
	const apart = 64
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		seq := p.AdmitPass(snapshot.Ident{ID: int64(n)})
		if n++; n%(8*apart) == 0 {
			for lane := range 8 {
				for i := range apart {
					p.SettlePass(seq - (8*apart - 1) + (7-lane)*apart + i)
				}
			}
		}
	}
}

func BenchmarkProgressLive(b *testing.B) {
	p := progress.New(snapshot.Position{})
	w := &snapshot.Window{N: 1}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p.SettleLive(w, p.AdmitLive(w, snapshot.Ident{ID: int64(n), Born: int64(n)}))
		if n++; n%1000 == 0 {
			p.Advance(snapshot.Closed{N: w.N, Snapshot: snapshot.Snapshot{Xmax: uint64(n)}}, nil)
			w = &snapshot.Window{N: w.N + 1, Base: snapshot.Snapshot{Xmax: uint64(n)}}
		}
	}
}

func BenchmarkSaveWithTenThousandDone(b *testing.B) {
	p := progress.New(snapshot.Position{})
	p.StartPass(snapshot.Snapshot{Xmax: 10}, 0, true)
	for i := range 2 * maxDone {
		p.AdmitPass(snapshot.Ident{ID: int64(i)})
	}
	for i := 1; i < 2*maxDone; i += 2 {
		p.SettlePass(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := p.Save(); len(s.Done.String()) == 0 {
			b.Fatal("nothing is done")
		}
	}
}

// One message, a thousand live subscriptions, one of which wants it.
func BenchmarkDispatch(b *testing.B) {
	f := newFeed(&Config{Logger: slog.New(slog.DiscardHandler), MemoryLimit: 1 << 30}, newMetrics(nil), "", "", nil)
	share := &budget{limit: 1 << 30}
	var queues []*queue
	for i := range 1000 {
		match, err := topic.NewMatcher([]string{fmt.Sprintf("orders.n%d.>", i)})
		if err != nil {
			b.Fatal(err)
		}
		q := f.newQueue(match, share, func() {})
		queues = append(queues, q)
		f.attach(q)
	}
	f.closeAt(snapshot.Snapshot{Xmax: 10})
	r := &message.Row{XID: 11}
	r.Topic = "orders.n500.created"
	rows := []*message.Row{r}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		f.core.out.dispatch(rows, f.core.win.win)
		if n++; n%1000 == 0 {
			if got := len(queues[500].take(1000)); got != 1000 {
				b.Fatalf("%d messages arrived, want 1000", got)
			}
		}
	}
}

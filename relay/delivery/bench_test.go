package delivery

import (
	"testing"

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
	for i := range 2 * MaxDone {
		p.AdmitPass(snapshot.Ident{ID: int64(i)})
	}
	for i := 1; i < 2*MaxDone; i += 2 {
		p.SettlePass(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := p.Save(); len(s.Done.String()) == 0 {
			b.Fatal("nothing is done")
		}
	}
}

package pull

import (
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// lent is a lease as the relay finds it.
func (b *bench) lent(id, token int64, worker string) sinks.Lease {
	return sinks.Lease{ID: id, Token: token, Worker: worker, Attempt: 1, Until: b.now.Add(time.Hour)}
}

func done(id, token int64) Item { return Item{Held: Held{"jobs", id, tokenText(token)}, Outcome: Done} }

// TestNothingIsKnownBeforeLeasesAreFound: a relay that has opened a subscription and not yet found its leases, or that hands it over, says so:
// "unknown" would make a worker forget what it has done, and the job would come again.
func TestNothingIsKnownBeforeLeasesAreFound(t *testing.T) {
	b := newBench()
	b.line.served = false
	if got := b.settle(done(1, 77)); got != Moving {
		t.Fatalf("before the leases are found, the answer is %q", got)
	}
	b.line.served = true
	b.adopt(b.line, []sinks.Lease{b.lent(1, 77, "w 1"), b.lent(2, 78, "w 1")})
	if got := b.settle(done(1, 77)); got != OK {
		t.Errorf("the answer is %q", got)
	}
	b.relinquish(b.line)
	if got := b.settle(done(1, 77)); got != OK {
		t.Errorf("what was settled before is answered %q", got)
	}
	if got := b.settle(done(2, 78)); got != Moving {
		t.Errorf("what was handed over is answered %q", got)
	}
	b.close(b.line)
	if got := b.settle(done(2, 78)); got != Moving {
		t.Errorf("what nobody has here is answered %q", got)
	}
}

// TestLeaseOfAnIncarnationThatNeverCalledHere: which of two incarnations came first a relay knows only of those that have called it. A lease of
// another one goes on.
func TestLeaseOfAnIncarnationThatNeverCalledHere(t *testing.T) {
	b := newBench()
	w := b.worker(t, "w") // incarnation 1 has called here once
	b.pass(time.Hour / 2)
	b.adopt(b.line, []sinks.Lease{b.lent(1, 71, "w 2"), b.lent(2, 72, "w 2"), b.lent(3, 73, "w 3")})
	if len(b.leased) != 0 {
		t.Fatalf("leases have ended: %v", b.leased)
	}
	b.pass(grace - time.Second)
	if _, err := b.called(Caller{Worker: "w", Incarnation: "2"}); err != nil {
		t.Fatal(err)
	}
	if len(w.holds) != 2 {
		t.Errorf("the incarnation that calls has %d of its two leases", len(w.holds))
	}
	if got := b.settle(done(1, 71)); got != OK || b.leased[71] != nil {
		t.Errorf("its settle is answered %q and ends as %v", got, b.leased[71])
	}
	b.pass(2 * time.Second)
	if kind, _ := sinks.Classify(b.leased[73]); kind != sinks.KindLost {
		t.Errorf("the lease of one that never calls ends as %v", b.leased[73])
	}
	// One that is known to have been there before has nothing any more.
	b.adopt(b.line, []sinks.Lease{b.lent(4, 74, "w 1")})
	if kind, _ := sinks.Classify(b.leased[74]); kind != sinks.KindLost {
		t.Errorf("the lease of a former incarnation ends as %v", b.leased[74])
	}
}

// TestHandOverTellsTheDeadline: progress that moved a deadline by too little for the row to be told is told when the job is handed over.
func TestHandOverTellsTheDeadline(t *testing.T) {
	b := newBench()
	b.post(1)
	token := b.take(b.worker(t, "w"), upToTen)[0].token
	told := Working{Held: Held{"jobs", 1, tokenText(token)}}
	b.progress(told)
	b.pass(10 * time.Second)
	b.progress(told)
	if len(b.leased) != 0 {
		t.Fatalf("the row is told %v", b.leased)
	}
	b.pass(time.Second)
	b.relinquish(b.line)
	if kind, after := sinks.Classify(b.leased[token]); kind != sinks.KindLeased || after != 5*time.Minute-time.Second {
		t.Errorf("the row is told %v, %s", b.leased[token], after)
	}
}

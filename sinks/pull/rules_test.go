package pull

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// bench is a core with one line, by a clock of its own.
type bench struct {
	*core
	line   *line
	sure   bool
	ended  map[int64]error
	leased map[int64]error
}

func newBench() *bench {
	b := &bench{core: newCore(), sure: true, ended: make(map[int64]error), leased: make(map[int64]error)}
	b.now = time.Unix(1_800_000_000, 0)
	b.confirmed = func() bool { return b.sure }
	b.lost = func(Lost) {}
	b.newToken = newTokens()
	b.line = b.core.line("jobs")
	b.line.open, b.line.served, b.line.setup, b.line.marked = true, true, Setup{15 * time.Second, 5 * time.Minute, 20}, make(map[int64]bool)
	b.line.settle = func(token int64, outcome error) { b.leased[token] = outcome }
	return b
}

func (b *bench) post(ids ...int64) {
	for _, id := range ids {
		b.send(context.Background(), b.line, sinks.Delivery{Message: &sinks.Message{ID: id}, Subscription: "jobs", Attempt: 1}, func(outcome error) { b.ended[id] = outcome })
	}
	b.settleDown()
}

func (b *bench) worker(t *testing.T, name string) *worker {
	t.Helper()
	w, err := b.called(Caller{Worker: name, Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.look()
	b.settleDown()
}

var upToTen = []Want{{"jobs", 10}}

func wokenOf(calls []*call) (n int) {
	for _, x := range calls {
		select {
		case <-x.ready:
			n++
		default:
		}
	}
	return n
}

// TestJobsWakeAsManyCalls: of a hundred calls that wait, three jobs wake three; what comes before those have looked joins them only
// when nobody else sleeps.
func TestJobsWakeAsManyCalls(t *testing.T) {
	b := newBench()
	var calls []*call
	for i := range 100 {
		calls = append(calls, b.await(b.worker(t, string(rune('A'+i))), upToTen))
	}
	b.post(1, 2, 3)
	if n := wokenOf(calls); n != 3 {
		t.Errorf("%d calls were woken by 3 jobs", n)
	}
	for _, x := range calls[3:] {
		b.leave(x)
	}
	b.post(4, 5)
	total := 0
	for _, x := range calls[:3] {
		total += len(b.collect(x))
	}
	if total != 5 {
		t.Errorf("the calls that were woken took %d jobs along, want 5", total)
	}
	if len(b.line.jobs) != 5 || b.line.calls.n+b.line.woken.n != 0 {
		t.Errorf("%d jobs, %d calls sleep, %d are awake", len(b.line.jobs), b.line.calls.n, b.line.woken.n)
	}
}

// TestUnsureHandsNothingOut: a relay that may have lost its subscriptions keeps jobs, even for calls that waited before.
func TestUnsureHandsNothingOut(t *testing.T) {
	b := newBench()
	x := b.await(b.worker(t, "w"), upToTen)
	b.sure = false
	b.post(1)
	if wokenOf([]*call{x}) != 0 || b.line.out != 0 {
		t.Error("a job was handed out")
	}
	b.sure = true
	b.post(2)
	if got := b.collect(x); len(got) != 2 || got[0].ID != 1 {
		t.Errorf("%d jobs were handed out when it was sure again", len(got))
	}
}

// TestTokenIsOfOneJob: a token settles the job that it was given with, and no other.
func TestTokenIsOfOneJob(t *testing.T) {
	b := newBench()
	b.post(1, 2)
	jobs := b.take(b.worker(t, "w"), upToTen)
	first, second := Held{"jobs", 1, tokenText(jobs[0].token)}, Held{"jobs", 2, tokenText(jobs[1].token)}
	for _, h := range []Held{{"jobs", 2, first.Token}, {"jobs", 1, ""}, {"jobs", 1, "guessed"}, {"jobs", 1, strings.ToUpper(first.Token)}, {"jobs", 1, "0" + first.Token}} {
		if got := b.settle(Item{Held: h, Outcome: Done}); got != Unknown {
			t.Errorf("%+v is answered %q", h, got)
		}
	}
	if got := b.settle(Item{Held: Held{"mail", 1, first.Token}, Outcome: Done}); got != Moving {
		t.Errorf("for a subscription that is not here the answer is %q", got)
	}
	if got := b.settle(Item{Held: second, Outcome: Done}); got != OK || len(b.ended) != 1 {
		t.Errorf("the right one is answered %q; %d have ended", got, len(b.ended))
	}
}

// TestGivenBackGoesFirst: what comes back is handed out before what has waited since.
func TestGivenBackGoesFirst(t *testing.T) {
	b := newBench()
	b.post(1, 2)
	w := b.worker(t, "w")
	jobs := b.take(w, upToTen)
	b.post(3)
	for _, j := range jobs {
		b.settle(Item{Held: Held{"jobs", j.ID, tokenText(j.token)}, Outcome: Release})
	}
	order := b.take(w, upToTen)
	if len(order) != 3 || order[2].ID != 3 {
		t.Errorf("the job that waited came before those that were given back")
	}
}

// TestLeasesOfFormerIncarnations: a worker that was started anew while its subscription changed hands has nothing of what it had.
func TestLeasesOfFormerIncarnations(t *testing.T) {
	b := newBench()
	if _, err := b.called(Caller{Worker: "w", Incarnation: "0"}); err != nil {
		t.Fatal(err)
	}
	b.worker(t, "w")
	b.adopt(b.line, []sinks.Lease{{ID: 1, Token: 11, Worker: "w 0"}, {ID: 2, Token: 12, Worker: "w 1"}, {ID: 3, Token: 13, Worker: "garbage"}})
	for token, want := range map[int64]string{11: "lost", 12: "", 13: "lost"} {
		outcome, ended := b.leased[token]
		kind, _ := sinks.Classify(outcome)
		if got := map[bool]string{true: kind.String()}[ended]; got != want {
			t.Errorf("lease %d: %q, want %q", token, got, want)
		}
	}
	if got := b.settle(Item{Held: Held{"jobs", 2, tokenText(12)}, Outcome: Done}); got != OK || b.leased[12] != nil {
		t.Errorf("the lease that goes on is answered %q, and the relay is told %v", got, b.leased[12])
	}
}

// TestLongJobsBecomeRows: after half a minute, not before, and at once with progress; the row learns of a deadline that has moved.
func TestLongJobsBecomeRows(t *testing.T) {
	b := newBench()
	b.post(1, 2)
	w := b.worker(t, "w")
	jobs := b.take(w, upToTen)
	b.progress(Working{Held: Held{"jobs", 1, tokenText(jobs[0].token)}})
	lease := func(id int64) time.Duration {
		kind, after := sinks.Classify(b.ended[id])
		if kind != sinks.KindLeased {
			return 0
		}
		return after
	}
	if lease(1) != 5*time.Minute || b.ended[2] != nil {
		t.Errorf("leased for %s, and the one without progress: %v", lease(1), b.ended[2])
	}
	for range 5 {
		w.seen = b.now
		b.pass(5 * time.Second)
	}
	if b.ended[2] != nil {
		t.Error("it is a row after 25 seconds")
	}
	w.seen = b.now
	b.pass(5 * time.Second)
	if lease(2) != 270*time.Second {
		t.Errorf("leased for %s after half a minute", lease(2))
	}
	for range 10 {
		w.seen = b.now
		b.pass(10 * time.Second)
		b.progress(Working{Held: Held{"jobs", 1, tokenText(jobs[0].token)}})
	}
	if kind, after := sinks.Classify(b.leased[jobs[0].token]); kind != sinks.KindLeased || after != 5*time.Minute {
		t.Errorf("the row was told %v, %s", kind, after)
	}
	// The worker falls silent: of several jobs, none has failed.
	b.pass(15 * time.Second)
	for _, j := range jobs {
		if kind, _ := sinks.Classify(b.leased[j.token]); kind != sinks.KindReleased {
			t.Errorf("the lease of %d ended as %v", j.ID, kind)
		}
	}
}

// TestNeglectedJobsAreTroubles: jobs that nobody asks for are told, and whether workers call all the same.
func TestNeglectedJobsAreTroubles(t *testing.T) {
	b := newBench()
	b.line.opened = b.now
	b.post(1)
	b.pass(30 * time.Second)
	opened := b.now
	if s := b.lineStatus(b.line, 0); s.Trouble != "" || s.Waiting != 1 || opened.Sub(s.LastTake) != 30*time.Second {
		t.Errorf("after half a minute: %+v", s)
	}
	b.pass(30 * time.Second)
	if s := b.lineStatus(b.line, 2); !strings.Contains(s.Trouble, "no worker has asked for them for 1m0s; 2 workers call, and take nothing") {
		t.Errorf("after a minute: %+v", s)
	}
	first, again := b.neglect(b.line)
	b.pass(again)
	later, again := b.neglect(b.line)
	if first != later || !strings.HasPrefix(first, "jobs wait, and no worker has asked for them") || again <= 0 || again > neglected {
		t.Errorf("its relay is told %q, and %q %s later", first, later, again)
	}
	w := b.worker(t, "w")
	if told, _ := b.neglect(b.line); !strings.Contains(told, "workers call this relay, and take nothing") {
		t.Errorf("when one has called: %q", told)
	}
	b.take(w, upToTen)
	asked := b.now
	b.pass(time.Second)
	if n := b.takers()[b.line]; n != 1 {
		t.Errorf("%d workers have its jobs, want one", n)
	}
	if s := b.lineStatus(b.line, 2); s.LastTake != asked {
		t.Errorf("the last take was %s ago, want a second", b.now.Sub(s.LastTake))
	}
	b.post(2)
	if s := b.lineStatus(b.line, 2); s.Trouble != "" || s.Out != 1 {
		t.Errorf("when one has asked: %+v", s)
	}
	if told, _ := b.neglect(b.line); told != "" {
		t.Errorf("when one has asked: %q", told)
	}
}

// A job that is cancelled only if nobody has it is its worker's, who may settle it; nobody else gets it after that one.
func TestSupersededJobsAreTheirWorkers(t *testing.T) {
	for _, end := range []string{"done", "leased, then done", "released", "lost"} {
		b := newBench()
		b.post(1, 2)
		w := b.worker(t, "w")
		jobs := b.take(w, []Want{{"jobs", 1}})
		if len(jobs) != 1 || jobs[0].ID != 1 {
			t.Fatalf("%d jobs", len(jobs))
		}
		b.cancel(b.line, map[int64]bool{1: true, 2: true})
		if _, ended := b.ended[1]; ended || b.ended[2] == nil {
			t.Errorf("%s: ended are %v, want the one that waits", end, b.ended)
		}
		held := Held{Subscription: "jobs", ID: 1, Token: tokenText(jobs[0].token)}
		want := sinks.KindReleased
		switch end {
		case "leased, then done":
			b.leaseOut(jobs[0])
			fallthrough
		case "done":
			want = sinks.KindAccepted
			if got := b.settle(Item{Held: held, Outcome: Done}); got != OK {
				t.Errorf("%s: the answer is %s", end, got)
			}
		case "released":
			for range 2 {
				if got := b.settle(Item{Held: held, Outcome: Release}); got != OK {
					t.Errorf("%s: the answer is %s", end, got)
				}
			}
		case "lost":
			want = sinks.KindLost
			b.pass(time.Minute)
		}
		outcome := b.ended[1]
		if end == "leased, then done" {
			outcome = b.leased[jobs[0].token]
		}
		if kind, _ := sinks.Classify(outcome); kind != want {
			t.Errorf("%s: it ended as %v", end, outcome)
		}
	}
}

// However often a worker tells of a job, its row is told once in five seconds at most, of the newest, and not at all when nothing has changed.
func TestProgressIsWrittenSeldom(t *testing.T) {
	b := newBench()
	b.post(1, 2)
	w := b.worker(t, "w")
	jobs := b.take(w, upToTen)
	var rows []string
	note := func(outcome error) {
		if o, ok := errors.AsType[*sinks.OutcomeError](outcome); ok && o.Kind == sinks.KindLeased {
			rows = append(rows, string(o.Progress))
		}
	}
	b.line.settle = func(_ int64, outcome error) { note(outcome) }
	held := Held{"jobs", jobs[0].ID, tokenText(jobs[0].token)}
	say := func(percent float64, text string) {
		w.seen = b.now
		b.progress(Working{held, Progress{percent, text}})
		b.pass(time.Second)
	}
	say(0, "")
	note(b.ended[held.ID])
	for range 60 {
		say(0, "")
	}
	if len(rows) != 1 || rows[0] != "" {
		t.Fatalf("a worker that says nothing of progress: %q", rows)
	}
	for i := range 60 {
		say(float64(i+1), "page")
	}
	if n := len(rows); n < 12 || n > 14 || rows[1] != `{"percent":1,"note":"page"}` {
		t.Errorf("told in a minute of beats: %d, %q", n, rows)
	}
	w.seen = b.now
	b.pass(5 * time.Second) // without another word
	if last := rows[len(rows)-1]; last != `{"percent":60,"note":"page"}` {
		t.Errorf("the last one told is %s", last)
	}
	told := len(rows)
	for range 60 {
		say(60, "page")
	}
	if n := len(rows) - told; n != 0 {
		t.Errorf("told %d times of what has not changed", n)
	}
}

// Of a lost worker the jobs are told by subscription, those that it still had; what tells of events itself makes no further ones.
func TestLostWorkersAreToldOf(t *testing.T) {
	b := newBench()
	var told []Lost
	b.core.lost = func(l Lost) { told = append(told, l) }
	for id, topic := range map[int64]string{1: "mail.welcome", 2: "mail.welcome", 3: "$postrider.worker_lost.jobs"} {
		b.send(context.Background(), b.line, sinks.Delivery{Message: &sinks.Message{ID: id, Topic: topic}, Subscription: "jobs", Attempt: 1}, func(error) {})
	}
	b.settleDown()
	w := b.worker(t, "w")
	for _, j := range b.take(w, upToTen) {
		if j.ID == 1 {
			b.settle(Item{Held: Held{"jobs", 1, tokenText(j.token)}, Outcome: Done})
		}
	}
	b.pass(15 * time.Second)
	if len(told) != 1 || told[0].Worker != "w" || told[0].All != 2 || told[0].Silent != 15*time.Second || len(told[0].Jobs) != 1 || told[0].Jobs["jobs"] != 1 {
		t.Errorf("told: %+v", told)
	}
	b.pass(time.Hour)
	if len(told) != 1 {
		t.Errorf("told again: %+v", told)
	}
}

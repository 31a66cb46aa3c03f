package feed

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal"
	"github.com/postrider/postrider/relay/wal/waltest"
)

// stepper drives a core by hand, one question and one answer at a time.
type stepper struct {
	*testing.T
	*core
	stream *wal.Assembler
	now    time.Time
	xmax   uint64
	lsn    pglogrepl.LSN
	queue  *queue.Queue
}

var testStart = time.Unix(1_800_000_000, 0).UTC()

func everything(t *testing.T) *topic.Matcher {
	t.Helper()
	match, err := topic.NewMatcher([]string{">"})
	if err != nil {
		t.Fatal(err)
	}
	return match
}

// newStepper has a core with a live queue, and a stream that it does not rely on yet.
func newStepper(t *testing.T) *stepper {
	backlog := wal.NewBacklog(1 << 20)
	s := &stepper{T: t, core: newCore(bounds{pollMin: time.Millisecond, pollMax: 100 * time.Millisecond, rowBytes: 1 << 16, busyRate: 1000}, backlog),
		stream: wal.NewAssembler(message.NewDecoder("source"), backlog), now: testStart, xmax: 10, lsn: 1}
	s.queue = queue.New(everything(t), &queue.Budget{Limit: 1 << 20}, func() {}, &s.out.ended)
	s.out.arriving = append(s.out.arriving, s.queue)
	backlog.Connect(func() {})
	s.bring(waltest.Frame(1, waltest.Relation()))
	s.begins(askTick)
	s.took(s.now, s.tick())
	return s
}

func (s *stepper) bring(frame []byte) {
	s.Helper()
	if err := s.stream.Take(frame); err != nil {
		s.Fatal(err)
	}
}

func (s *stepper) tick() *answer {
	return &answer{at: point{snapshot.Snapshot{Xmax: s.xmax}, s.lsn}}
}

// begins begins a tick, which is to ask that.
func (s *stepper) begins(want question) Ask {
	s.Helper()
	a := s.next(s.now)
	s.asks(a, want)
	return a
}

func (s *stepper) asks(a Ask, want question) {
	s.Helper()
	if a.what != want {
		s.Fatalf("it asks %d, want %d", a.what, want)
	}
}

// follow makes ticks of the table until the stream is followed.
func (s *stepper) follow() {
	s.Helper()
	for range 2 {
		s.begins(askWindow)
		s.asks(s.took(s.now, s.tick()), askNothing)
		s.bring(waltest.Keepalive(s.lsn))
	}
	if !s.trust.streaming || !s.takeNews().following {
		s.Fatal("the stream is not followed")
	}
}

// commits a transaction with a row; the stream brings it if it is to.
func (s *stepper) commits(streamed bool) {
	s.Helper()
	r := &message.Row{XID: s.xmax}
	r.ID, r.Topic, r.Payload, r.CreatedAt = int64(s.xmax), "a", []byte("1"), testStart
	s.xmax++
	s.lsn += 10
	if streamed {
		s.bring(waltest.Frame(s.lsn, waltest.Begin(testStart)))
		s.bring(waltest.Frame(s.lsn, waltest.Insert(r)))
		s.bring(waltest.Frame(s.lsn, waltest.Commit()))
	}
}

// counts makes a closing tick up to the answer that the newest transaction has a row.
func (s *stepper) counts() Ask {
	s.Helper()
	s.now = s.now.Add(idleEvery)
	s.begins(askCounts)
	a := s.tick()
	a.counts = map[uint64]int{s.xmax - 1: 1}
	return s.took(s.now, a)
}

// completes answers the question for what the stream has not brought.
func (s *stepper) completes(a Ask) {
	s.Helper()
	s.asks(a, askTransactions)
	if !slices.Equal(a.xids, []uint64{s.xmax - 1}) {
		s.Fatalf("it asks for transactions %d, want %d", a.xids, s.xmax-1)
	}
	r := &message.Row{XID: s.xmax - 1}
	r.ID, r.Topic = int64(r.XID), "a"
	before := len(s.queue.Take(100))
	s.asks(s.took(s.now, &answer{rows: rowSet{rows: []*message.Row{r}}}), askNothing)
	if got := s.queue.Take(100); before != 0 || len(got) != 1 || got[0].Row != r {
		s.Fatalf("%d and %d messages are handed out, want 0 and 1", before, len(got))
	}
}

// A stream that has passed the tick and left something out has a hole: it is relied on again after a second, then after two, up to a
// minute; after ten minutes without one all is forgiven.
func TestDistrust(t *testing.T) {
	s := newStepper(t)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.follow()
		s.commits(false)
		s.bring(waltest.Keepalive(s.lsn))
		s.completes(s.counts())
		if n := s.takeNews(); n.Ended != HasHole || !n.completed || s.trust.distrust != want*time.Second {
			t.Fatalf("%+v, and distrust for %s, want %ds", n, s.trust.distrust, want)
		}
		s.now = s.now.Add(want*time.Second - 1)
		s.begins(askWindow)
		s.took(s.now, s.tick())
		if _, gap, _ := s.backlog.State(); !gap {
			t.Fatal("it is relied on too early")
		}
		s.now = s.now.Add(1)
	}
	s.follow()
	for _, whole := range []time.Duration{distrustForget - 2*idleEvery, 2 * idleEvery} {
		if s.trust.distrust != distrustMost {
			t.Fatal("it is forgiven too early")
		}
		s.now = s.now.Add(whole)
		s.commits(true)
		s.asks(s.counts(), askNothing)
	}
	if s.trust.distrust != 0 {
		t.Error("it is not forgiven after ten minutes without a hole")
	}
}

// A stream that is behind is waited for, not for long; what it brings meanwhile is not asked for.
func TestStreamIsWaitedFor(t *testing.T) {
	s := newStepper(t)
	s.follow()
	s.commits(false)
	wait := s.counts()
	s.asks(wait, askStream)
	if wait.Wait != auditWait {
		t.Errorf("it waits for %s, want %s", wait.Wait, auditWait)
	}
	s.now = s.now.Add(auditWait / 4)
	if wait = s.took(s.now, nil); wait.what != askStream || wait.Wait != auditWait*3/4 {
		t.Errorf("woken for nothing it asks %+v, want to wait for the rest", wait)
	}
	s.xmax--
	s.lsn -= 10
	s.commits(true)
	s.asks(s.took(s.now, nil), askNothing)
	if got := s.queue.Take(2); len(got) != 1 || s.takeNews().completed {
		t.Errorf("%d messages, want the one that the stream has brought after all", len(got))
	}
	for n := range slowWindows { // late so many times
		s.commits(false)
		s.asks(s.counts(), askStream)
		s.now = s.now.Add(auditWait)
		asked := s.took(s.now, nil)
		s.bring(waltest.Keepalive(s.lsn)) // passing it while the table is asked is too late, but no hole
		s.completes(asked)
		want := ""
		if n == slowWindows-1 {
			want = isBehind
		}
		if n := s.takeNews(); n.Ended != want || s.trust.distrust != 0 {
			t.Errorf("%+v, want the end to be because %q", n, want)
		}
	}
}

// What fails twice is not asked for a third time: all live runners read pages instead. Rows that cannot be read together are read
// without what they carry.
func TestLookFailsAgain(t *testing.T) {
	s := newStepper(t)
	if s.begins(askWindow).heads || !s.failed(true) {
		t.Error("the first failure of rows is not one to be careful after")
	}
	if !s.begins(askWindow).heads || s.failed(true) {
		t.Error("heads that cannot be read are to be read again")
	}
	s.begins(askTick)
	s.took(s.now, s.tick())
	if _, _, refused := s.queue.State(); !refused {
		t.Error("the runner does not read pages")
	}
	if at := s.win.newest.Load(); at.Snapshot.Xmax != s.xmax {
		t.Errorf("closed at %s", at.Snapshot)
	}
	s.begins(askNothing)
	if s.failures != 0 {
		t.Error("the failures still count")
	}
}

// While ticks read the table, the stream makes the next come sooner, but not too soon; while it is followed, at once.
func TestStreamWakes(t *testing.T) {
	s := newStepper(t)
	s.begins(askWindow)
	s.took(s.now, s.tick())
	if got := s.woken(s.now.Add(time.Millisecond / 4)); got != 3*time.Millisecond/4 {
		t.Errorf("a tick of the table after %s more", got)
	}
	if got := s.woken(s.now.Add(time.Second)); got != 0 {
		t.Errorf("a tick that is overdue after %s", got)
	}
	s.bring(waltest.Keepalive(s.lsn))
	s.begins(askWindow)
	s.took(s.now, s.tick())
	if got := s.woken(s.now); !s.trust.streaming || got != 0 {
		t.Errorf("a tick of the stream after %s", got)
	}
}

// What the stream has brought and nobody sees yet is looked for soon, then less often; else the tick waits for the window's end.
func TestDelayOfTheStream(t *testing.T) {
	s := newStepper(t)
	s.follow()
	s.commits(true)
	unseen := s.tick()
	unseen.at.snap.Xmax--
	for want := recheckMin; want < 2*recheckMax; want *= 2 {
		s.begins(askTick)
		if a := s.took(s.now, unseen); a.Wait != min(want, recheckMax) {
			t.Fatalf("looks again after %s, want %s", a.Wait, min(want, recheckMax))
		}
	}
	s.now = s.now.Add(closeEvery / 4)
	s.begins(askTick)
	if a := s.took(s.now, s.tick()); a.Wait != closeEvery*3/4 {
		t.Errorf("waits %s for the window's end, want %s", a.Wait, closeEvery*3/4)
	}
	if got := s.queue.Take(2); len(got) != 1 {
		t.Errorf("%d messages, want 1", len(got))
	}
}

// A gap is no reason to wait for the window's end: ticks read the table at once.
func TestLostRowsEndStreaming(t *testing.T) {
	s := newStepper(t)
	s.follow()
	s.backlog.Overflow()
	s.begins(askTick)
	if a := s.took(s.now, s.tick()); a.Wait != 0 || s.takeNews().Ended != lostRows {
		t.Errorf("the next tick comes after %s", a.Wait)
	}
	s.begins(askWindow)
}

// A stream that has not passed the mark is not followed: it is behind, whatever has ended meanwhile.
func TestStreamPassesTheMark(t *testing.T) {
	s := newStepper(t)
	s.lsn = 100
	for range 3 {
		s.begins(askWindow)
		s.asks(s.took(s.now, s.tick()), askNothing)
		s.bring(waltest.Keepalive(99))
	}
	if s.trust.streaming {
		t.Error("the stream is followed before it has passed the mark")
	}
	s.bring(waltest.Keepalive(100))
	s.begins(askWindow)
	s.took(s.now, s.tick())
	if !s.trust.streaming {
		t.Error("the stream is not followed after it has passed the mark")
	}
}

// Producers that outrun the stream for two windows in a row end it, and those who keep it running hear of that.
func TestProducersOutrun(t *testing.T) {
	s := newStepper(t)
	s.bounds.busyRate = 1
	s.follow()
	for n, want := range []bool{false, true} {
		commits := uint64(2 + 6*n) // what came too late for one window is no sign that the next is on time
		a := s.tick()
		a.counts = make(map[uint64]int)
		for i := range commits {
			a.counts[s.xmax+i] = 1
		}
		for range commits {
			s.commits(false)
		}
		a.at = s.tick().at
		s.now = s.now.Add(time.Second)
		s.begins(askCounts)
		s.asks(s.took(s.now, a), askStream)
		s.xmax, s.lsn = s.xmax-commits, s.lsn-pglogrepl.LSN(10*commits)
		for range commits {
			s.commits(true)
		}
		s.asks(s.took(s.now, nil), askNothing)
		if news := s.takeNews(); news.Outrun != want || (news.Ended == isOutrun) != want {
			t.Errorf("window %d: %+v, outrun %t is wanted", n, news, want)
		}
	}
}

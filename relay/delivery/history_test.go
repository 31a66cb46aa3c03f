package delivery

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/subscription"
)

// simulation is a history of transactions and of two relays that follow it: the engine's feeds, held rows, pgoutput parser,
// windows, queues, runners, lanes, keys, breaker, parked sets and progress, without a database, a network, a clock or chance. What
// they would wait for happens in any order that the history wants.
type simulation struct {
	server *simServer
	feeds  [2]*simFeed
	subs   []*simRunner
	setup  simOp
	chose  bool          // some filter looks at more than topics
	trace  *bytes.Buffer // nil: none is kept

	streamed int // rows that feeds dispatched because a stream had brought them
	rested   bool
	classes  int // runners that had several
	joined   int // subscriptions whose classes became one again
}

// simOp is one event of a history: what happens, and its details.
type simOp struct{ what, a, b, c uint8 }

// simFailure is what panics when a promise is broken.
type simFailure struct{ text string }

func (s *simulation) failf(format string, args ...any) {
	panic(simFailure{fmt.Sprintf(format, args...)})
}

func (s *simulation) notef(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, "    "+format+"\n", args...)
	}
}

// The subscriptions' topics, settings and bounds, for the first event to choose from.
var (
	simTopics   = []string{"a.x", "a.y", "b.x", "a.poison"}
	simPatterns = [][]string{{">"}, {"a.*"}, {"*.x", "a.poison"}}
	simFilters  = func() (filters []*Filter) {
		for _, p := range simPatterns {
			m, err := topic.NewMatcher(p)
			if err != nil {
				panic(err)
			}
			filters = append(filters, &Filter{regex: topic.Regex(p), current: m})
		}
		return filters
	}()
	simSettings = []subscription.Settings{
		{Ordering: subscription.OrderByKey, OnDead: subscription.DeadSkips, MaxAttempts: 3, Lanes: 2, Batch: 4, MaxParked: 1000, MaxScheduled: 1000},
		{Ordering: subscription.OrderByKey, OnDead: subscription.DeadHolds, MaxAttempts: 2, Lanes: 3, Batch: 1, MaxParked: 1000, MaxScheduled: 1000},
		{Ordering: subscription.OrderStrict, OnDead: subscription.DeadSkips, MaxAttempts: 2, Lanes: 1, Batch: 1, MaxParked: 1000, MaxScheduled: 1000},
		{Ordering: subscription.OrderByKey, OnDead: subscription.DeadSkips, MaxAttempts: 1, Lanes: 1, Batch: 3, MaxParked: 2, MaxScheduled: 1},
		{Ordering: subscription.OrderNone, OnDead: subscription.DeadHolds, MaxAttempts: 2, Lanes: 2, Batch: 2, MaxParked: 1000, MaxScheduled: 2},
		{Ordering: subscription.OrderStrict, OnDead: subscription.DeadHolds, MaxAttempts: 3, Lanes: 1, Batch: 1, MaxParked: 1000, MaxScheduled: 1000},
	}
	simLimits = []subscription.Limits{
		{}, {}, {}, {},
		{Limit: subscription.Limit{InFlight: 1}},
		{Limit: subscription.Limit{InFlight: 2, Rate: subscription.Rate{Count: 20, Per: time.Second}}, Per: subscription.PerLimits{By: "key", Limit: subscription.Limit{InFlight: 1}}},
		{Per: subscription.PerLimits{By: "key", Limit: subscription.Limit{Rate: subscription.Rate{Count: 10, Per: time.Minute}}}},
		{Limit: subscription.Limit{Rate: subscription.Rate{Count: 30, Per: time.Minute}}},
	}
	simMemory = []int64{1 << 20, 16000, 6000} // of a feed, a quarter of it for what is held: rows count for some 260 bytes
	simQueues = []int64{1 << 20, 2000}        // of all queues of a relay
)

func newSimulation(setup simOp, trace *bytes.Buffer) *simulation {
	s := &simulation{server: newSimServer(), setup: setup, trace: trace}
	for i := range s.feeds {
		s.newFeed(i)
	}
	for i := range 1 + int(setup.a)%2 {
		n := int(setup.b) + 5*i
		x := &simRunner{sim: s, filter: simFilters[(n/8)%len(simFilters)], parked: make(map[int64]*simEntry),
			ever: make(map[int64]bool), died: make(map[int64]bool), tries: make(map[int64]int), again: make(map[int64]bool),
			sub: subscription.Subscription{Name: fmt.Sprintf("sub%d", i), Settings: simSettings[n%len(simSettings)]}}
		x.choose(simChoices[(n+int(setup.a>>3))%len(simChoices)])
		x.sub.Settings.Limits = simLimits[int(setup.a>>4+setup.b>>5)%len(simLimits)]
		x.sends = setup.a>>(2+i)&1 == 1
		if setup.c&1 == 1 { // it begins now, in the middle of a transaction
			s.server.insert(s.server.begin(), simTopics[0], "k", time.Time{})
			s.server.other()
			x.begun = s.server.snapshot()
		}
		x.stored = simCursors{0: {Base: x.begun}}
		x.sub.Settings.Priorities = setup.b&64 > 0 && x.sub.Settings.Ordering != subscription.OrderStrict
		x.takeOver(s.feeds[i*int(setup.a/2)%2])
		s.subs = append(s.subs, x)
	}
	if setup.c < 224 {
		s.follow(setup)
	}
	return s
}

func (s *simulation) newFeed(i int) {
	s.feeds[i] = newSimFeed(s, simMemory[int(s.setup.c/2)%len(simMemory)], simQueues[int(s.setup.c/8)%len(simQueues)])
}

// runHistory plays the events, the first of which is the set-up, then lets everything come to rest. Only a broken promise is a
// failure to return: any other panic is one of the engine or of the model, and goes on.
func runHistory(ops []simOp, trace *bytes.Buffer) (s *simulation, failure string) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case simFailure:
			failure = p.text
		default:
			panic(p)
		}
	}()
	var setup simOp
	if len(ops) > 0 {
		setup, ops = ops[0], ops[1:]
	}
	s = newSimulation(setup, trace)
	s.notef("set-up %v", setup)
	for _, op := range ops {
		if op.what == 0 {
			continue // what a history shrinks to
		}
		s.notef("%v", op)
		s.play(op)
		s.server.now = s.server.now.Add(time.Microsecond)
	}
	s.finish()
	return s, ""
}

var simOps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) simOp {
	b := func(name string) uint8 { return 37 * rapid.Byte().Draw(t, name) } // draws prefer small numbers, histories do not
	return simOp{b("what"), b("a"), b("b"), b("c")}
}), 40, 140)

// TestHistories: whatever transactions do, in whatever order things happen and whatever is lost, every committed message arrives or
// is dead, nothing else does, keys are in order, and only what was not saved when a runner was lost comes again.
func TestHistories(t *testing.T) {
	t.Parallel()
	var played, whole, classes, joined, cancelled, chose int
	for range 10 { // of 100 histories each
		rapid.Check(t, func(t *rapid.T) {
			ops := simOps.Draw(t, "history")
			s, failure := runHistory(ops, nil)
			if failure != "" {
				t.Fatalf("%s\n%s", failure, retell(ops))
			}
			played++
			classes += min(s.classes, 1)
			joined += min(s.joined, 1)
			cancelled += min(s.cancelled(), 1)
			if s.chose {
				chose++
			}
			if s.streamed > 0 && s.rested {
				whole++
			}
		})
	}
	// Histories that break off early, or never follow the stream, prove nothing.
	if played < 1000 || whole < played*9/10 {
		t.Errorf("of %d histories %d streamed something and came to rest: want at least 1000, and nine of ten", played, whole)
	}
	if chose < played/5 {
		t.Errorf("in %d of %d histories a filter looked at messages: want one of five", chose, played)
	}
	if cancelled < played/5 {
		t.Errorf("in %d of %d histories a message was cancelled: want one of five", cancelled, played)
	}
	if classes < played/5 || joined < played/20 {
		t.Errorf("of %d histories %d had classes, and in %d they became one: want one of five, and one of twenty", played, classes, joined)
	}
}

// retell plays a history again and tells what happens in it.
func retell(ops []simOp) string {
	trace := new(bytes.Buffer)
	runHistory(ops, trace)
	return trace.String()
}

func opsOf(data []byte) (ops []simOp) {
	for len(data) >= 4 {
		ops = append(ops, simOp{data[0], data[1], data[2], data[3]})
		data = data[4:]
	}
	return ops
}

// FuzzHistory lets the fuzzer look for the history that breaks a promise.
func FuzzHistory(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		f.Add(randomHistory(random, 60))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ops := opsOf(data[:min(len(data), 2000)])
		if _, failure := runHistory(ops, nil); failure != "" {
			t.Fatalf("%s\n%s", failure, retell(ops))
		}
	})
}

func randomHistory(random *rand.Rand, n int) []byte {
	data := make([]byte, 4*n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func BenchmarkHistory(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		ops := opsOf(randomHistory(random, 70))
		if _, failure := runHistory(ops, nil); failure != "" {
			b.Fatalf("%s\n%s", failure, retell(ops))
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "histories/s")
}

package relay

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// simFeed is a relay's feed: the engine's, from its core to what runners see of it. The model answers what it asks and has a clock
// for it. A question is answered at once, but the feed hears of it later: the stream goes on meanwhile.
type simFeed struct {
	*feed
	budget *budget
	sim    *simulation
	stream *simStream // nil: not connected
	now    time.Time  // by the relay's own clock, which goes as the history wants
	asked  ask        // the question under way
	lost   uint8      // bit by bit, whether the next questions are not answered
}

func newSimFeed(sim *simulation, memory, queues int64) *simFeed {
	config := &Config{Logger: slog.New(slog.DiscardHandler), MemoryLimit: memory, PollMin: time.Millisecond, PollMax: time.Millisecond, busyRate: 2}
	return &simFeed{feed: newFeed(config, simMetrics, "", simSource, nil), budget: &budget{limit: queues}, sim: sim, now: simStart}
}

func (f *simFeed) connect() {
	f.disconnect()
	f.stream = newSimStream(f.sim.server, f.backlog)
}

func (f *simFeed) disconnect() {
	if f.stream != nil {
		f.backlog.Disconnect()
		f.stream = nil
	}
}

// ticking says whether a tick is under way.
func (f *simFeed) ticking() bool { return f.asked.what != askNothing }

// advance begins a tick, or goes on with the one under way. closing lets so much time pass before that the window is to be closed; late
// lets the time pass that the feed waits for its stream.
func (f *simFeed) advance(closing, late bool) {
	f.now = f.now.Add(time.Millisecond)
	if !f.ticking() {
		if closing {
			f.now = f.now.Add(idleEvery)
		}
		f.ask(f.begin(f.now))
		return
	}
	if f.asked.what == askStream && late {
		f.now = f.now.Add(f.asked.wait)
	}
	before := len(f.core.win.dispatched)
	next := f.core.took(f.now, &f.answer)
	f.sim.streamed += max(0, len(f.core.win.dispatched)-before)
	n := f.core.takeNews()
	if n.ended == hasHole && !f.sim.server.holes {
		f.sim.failf("the stream is found to have a hole, but has brought all that it was to bring")
	}
	f.tell(n)
	if n.outrun {
		f.disconnect()
	}
	f.ask(next)
}

// finishTick goes on with a tick until it has ended, or been lost.
func (f *simFeed) finishTick() {
	for f.ticking() {
		f.advance(false, true)
	}
}

// tick makes a whole one that closes, after the one under way.
func (f *simFeed) tick() {
	f.finishTick()
	f.advance(true, true)
	f.finishTick()
}

// ask lets the server answer.
func (f *simFeed) ask(a ask) {
	if f.asked = a; a.what == askNothing || a.what == askStream {
		return
	}
	if err := f.put(context.Background(), &simLooks{f.sim.server, &f.lost}, &a); err != nil {
		f.sim.notef("a look of a feed fails")
		f.asked = ask{}
	}
}

// trust lets the time pass after which a stream that had a hole is relied on again.
func (f *simFeed) trust() { f.now = f.now.Add(distrustMost) }

// simLooks answers the feed's questions about the server of the model.
type simLooks struct {
	*simServer
	lost *uint8
}

var _ server = (*simLooks)(nil)

// fails says whether the connection breaks.
func (s *simLooks) fails() error {
	fails := *s.lost&1 == 1
	if *s.lost >>= 1; fails {
		return errSim
	}
	return nil
}

func (s *simLooks) useUpID(context.Context) error {
	if err := s.fails(); err != nil {
		return err
	}
	s.simServer.useUpID()
	return nil
}

func (s *simLooks) look(context.Context) (store.Tick, error) {
	return store.Tick{Snapshot: s.snapshot(), LSN: s.lsn}, s.fails()
}

func (s *simLooks) readWindow(ctx context.Context, base snapshot.Snapshot, _ bool, to *rowSet) (store.Tick, error) {
	if err := addAll(to, s.window(base)); err != nil {
		return store.Tick{}, err
	}
	return s.look(ctx)
}

func (s *simLooks) countWindow(ctx context.Context, base snapshot.Snapshot, to map[uint64]int) (store.Tick, error) {
	for _, r := range s.window(base) {
		to[r.XID]++
	}
	return s.look(ctx)
}

func (s *simLooks) windowTopics(_ context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return topicsOf(slices.DeleteFunc(s.window(base), func(r *message.Row) bool { return !seen.Sees(r.XID) })), s.fails()
}

func (s *simLooks) readTransactions(_ context.Context, xids []uint64, _ bool, to *rowSet) error {
	if err := addAll(to, s.of(xids)); err != nil {
		return err
	}
	return s.fails()
}

func (s *simLooks) transactionTopics(_ context.Context, xids []uint64) ([]string, error) {
	return topicsOf(s.of(xids)), s.fails()
}

func addAll(to *rowSet, rows []*message.Row) error {
	for _, r := range rows {
		if err := to.add(r); err != nil {
			return err
		}
	}
	return nil
}

func topicsOf(rows []*message.Row) (topics []string) {
	for _, r := range rows {
		if !slices.Contains(topics, r.Topic) {
			topics = append(topics, r.Topic)
		}
	}
	return topics
}

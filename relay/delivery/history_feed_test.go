package delivery

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/feed"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
)

// simFeed is a relay's feed: the engine's, from its core to what runners see of it. The model answers what it asks and has a clock
// for it. A question is answered at once, but the feed hears of it later: the stream goes on meanwhile.
type simFeed struct {
	*feed.Feed
	budget *queue.Budget
	sim    *simulation
	stream *simStream // nil: not connected
	now    time.Time  // by the relay's own clock, which goes as the history wants
	asked  feed.Ask   // the question under way
	lost   uint8      // bit by bit, whether the next questions are not answered
}

// openWindowOf is the window that a feed has open.
func openWindowOf(f *feed.Feed) *snapshot.Window {
	at := f.Closed()
	return &snapshot.Window{N: at.N + 1, Base: at.Snapshot}
}

// quietFeed is the configuration of a feed without a database.
func quietFeed(memory int64) feed.Config {
	return feed.Config{Log: slog.New(slog.DiscardHandler), MemoryLimit: memory, PollMin: time.Millisecond, PollMax: time.Millisecond,
		Metrics: feed.Metrics{Ticks: simMetrics.Ticks, Gaps: simMetrics.Gaps, Completed: simMetrics.Completed}}
}

func newSimFeed(sim *simulation, memory, queues int64) *simFeed {
	config := quietFeed(memory)
	config.BusyRate = 2
	return &simFeed{Feed: feed.New(config), budget: &queue.Budget{Limit: queues}, sim: sim, now: simStart}
}

func (f *simFeed) connect() {
	f.disconnect()
	f.stream = newSimStream(f.sim.server, f.Backlog)
}

func (f *simFeed) disconnect() {
	if f.stream != nil {
		f.Backlog.Disconnect()
		f.stream = nil
	}
}

// ticking says whether a tick is under way.
func (f *simFeed) ticking() bool { return !f.asked.Over() }

// advance begins a tick, or goes on with the one under way. closing lets so much time pass before that the window is to be closed; late
// lets the time pass that the feed waits for its stream.
func (f *simFeed) advance(closing, late bool) {
	f.now = f.now.Add(time.Millisecond)
	if !f.ticking() {
		if closing {
			f.now = f.now.Add(time.Second)
		}
		f.ask(f.Begin(f.now))
		return
	}
	if f.asked.ForStream() && late {
		f.now = f.now.Add(f.asked.Wait)
	}
	next, n := f.Took(f.now)
	f.sim.streamed += n.Streamed
	if n.Ended == feed.HasHole && !f.sim.server.holes {
		f.sim.failf("the stream is found to have a hole, but has brought all that it was to bring")
	}
	if n.Outrun {
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
func (f *simFeed) ask(a feed.Ask) {
	if f.asked = a; a.Over() || a.ForStream() {
		return
	}
	if err := f.Put(context.Background(), &simLooks{f.sim.server, &f.lost}, &a); err != nil {
		f.sim.notef("a look of a feed fails")
		f.asked = feed.Ask{}
	}
}

// trust lets the time pass after which a stream that had a hole is relied on again.
func (f *simFeed) trust() { f.now = f.now.Add(time.Minute) }

// simLooks answers the feed's questions about the server of the model.
type simLooks struct {
	*simServer
	lost *uint8
}

var _ feed.Server = (*simLooks)(nil)

// fails says whether the connection breaks.
func (s *simLooks) fails() error {
	fails := *s.lost&1 == 1
	if *s.lost >>= 1; fails {
		return errSim
	}
	return nil
}

func (s *simLooks) Close() {}

func (s *simLooks) UseUpID(context.Context) error {
	if err := s.fails(); err != nil {
		return err
	}
	s.simServer.useUpID()
	return nil
}

func (s *simLooks) Tick(context.Context) (snapshot.Snapshot, pglogrepl.LSN, error) {
	return s.snapshot(), s.lsn, s.fails()
}

func (s *simLooks) ReadWindow(ctx context.Context, base snapshot.Snapshot, _ bool, add func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error) {
	if err := addAll(add, s.window(base)); err != nil {
		return snapshot.Snapshot{}, 0, err
	}
	return s.Tick(ctx)
}

func (s *simLooks) CountWindow(ctx context.Context, base snapshot.Snapshot, to map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error) {
	for _, r := range s.window(base) {
		to[r.XID]++
	}
	return s.Tick(ctx)
}

func (s *simLooks) WindowTopics(_ context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return topicsOf(slices.DeleteFunc(s.window(base), func(r *message.Row) bool { return !seen.Sees(r.XID) })), s.fails()
}

func (s *simLooks) ReadTransactions(_ context.Context, xids []uint64, _ bool, add func(*message.Row) error) error {
	if err := addAll(add, s.of(xids)); err != nil {
		return err
	}
	return s.fails()
}

func (s *simLooks) TransactionTopics(_ context.Context, xids []uint64) ([]string, error) {
	return topicsOf(s.of(xids)), s.fails()
}

func addAll(add func(*message.Row) error, rows []*message.Row) error {
	for _, r := range rows {
		if err := add(r); err != nil {
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

// A transaction that waits for a standby may be the newest, so that no snapshot lists it. The stream, which began after its record,
// will never bring it: it must not be followed before the transaction has ended, whether or not a look fails meanwhile.
func TestNewestTransactionWaitsForStandby(t *testing.T) {
	for _, lost := range []uint8{0, 1, 2} {
		s := newSimulation(simOp{c: 254}, nil)
		x := s.subs[0]
		f := x.feed
		f.tick()
		s.settle(x)
		f.tick()
		waits := s.server.begin()
		s.server.insert(waits, simTopics[0], "k", time.Time{})
		s.server.write(waits)
		f.connect()
		for f.lost = lost; f.lost > 0; {
			f.tick()
		}
		for range 4 {
			f.tick()
			s.settle(x)
			s.server.other()
			f.stream.keepalive()
		}
		if f.Streaming() {
			t.Errorf("looks lost %b: the stream is followed although it will not bring transaction %d", lost, waits.xid)
		}
		s.server.show(waits)
		for range 3 {
			f.tick()
			s.settle(x)
			f.stream.keepalive()
		}
		if !f.Streaming() || !x.ever[waits.rows[0].ID] {
			t.Errorf("looks lost %b: the stream is followed: %t, the message has arrived: %t; want both", lost, f.Streaming(), x.ever[waits.rows[0].ID])
		}
	}
}

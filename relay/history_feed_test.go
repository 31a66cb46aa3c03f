package relay

import (
	"log/slog"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
)

// simFeed is a relay's feed. Its looks at the server are the model's, since they are statements on a connection; everything that
// the engine makes of them is the engine's. A look and what follows from it are separate steps: the stream goes on meanwhile.
type simFeed struct {
	*feed
	budget *budget
	sim    *simulation
	stream *simStream // nil: not connected
	look   *simLook   // under way
}

// simLook is what one look at the server gave.
type simLook struct {
	tick
	kind   string
	found  rowSet
	counts map[uint64]int
	waited bool
}

func newSimFeed(sim *simulation, memory, queues int64) *simFeed {
	config := &Config{Logger: slog.New(slog.DiscardHandler), MemoryLimit: memory, PollMin: time.Millisecond, PollMax: time.Millisecond}
	return &simFeed{feed: newFeed(config, simMetrics, "", simSource, nil), budget: &budget{limit: queues}, sim: sim}
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

// advance begins a look, or goes on with the one under way. closing chooses between the ticks of a stream; late ends waiting for it.
func (f *simFeed) advance(closing, late bool) {
	if f.look == nil {
		f.look = f.begin(closing)
		return
	}
	switch l := f.look; l.kind {
	case "skip":
		f.streaming, f.mark = false, nil
		f.close(l.snap)
	case "read":
		f.finishRead(l)
	case "audit":
		if !f.finishAudit(l, late) {
			return
		}
	case "release":
		f.takeStreamed(l.snap)
		if _, gap, _ := f.backlog.State(); gap {
			f.endStreaming("the stream lost rows")
		}
	}
	f.look = nil
}

// begin is feed.next, up to the answer of the server.
func (f *simFeed) begin(closing bool) *simLook {
	f.prune()
	f.attaching = len(f.pending)
	l := &simLook{}
	switch {
	case len(f.live) == 0 && f.attaching == 0:
		f.streaming, f.mark = false, nil
		return nil
	case len(f.live) == 0:
		l.kind = "skip"
	case !f.streaming:
		l.kind = "read"
		if connected, gap, _ := f.backlog.State(); connected && gap && !time.Now().Before(f.trustFrom) {
			f.backlog.Restart()
			f.mark = nil
			f.sim.server.useUpID()
		}
	case f.attaching > 0 || closing:
		l.kind = "audit"
	default:
		l.kind = "release"
	}
	l.snap, l.lsn = f.sim.server.snapshot(), f.sim.server.lsn
	l.counts, l.found.limit = make(map[uint64]int), f.config.MemoryLimit/4
	if l.kind == "read" || l.kind == "audit" {
		for _, r := range f.sim.server.window(f.closed) {
			l.counts[r.XID]++
			l.found.add(r)
		}
	}
	return l
}

// takeStreamed is feed.takeVisible, and counts what it dispatches.
func (f *simFeed) takeStreamed(snap snapshot.Snapshot) {
	before := len(f.open)
	f.takeVisible(snap)
	f.sim.streamed += len(f.open) - before
}

// finishRead is the second half of feed.read.
func (f *simFeed) finishRead(l *simLook) {
	f.backlog.Take(l.snap, nil)
	if l.found.over {
		f.demoteAll(l.counts)
	}
	f.dispatchNew(l.found.rows)
	f.close(l.snap)
	f.judgeStream(&l.tick)
}

// demoteAll is feed.demote for what whole transactions hold.
func (f *simFeed) demoteAll(counts map[uint64]int) {
	for _, r := range f.sim.server.committed {
		if counts[r.XID] > 0 {
			for _, q := range f.route(r.Topic) {
				q.refuse(f.win)
			}
		}
	}
}

// finishAudit is the second half of feed.audit; false while it waits for the stream.
func (f *simFeed) finishAudit(l *simLook, late bool) bool {
	f.takeStreamed(l.snap)
	missing := f.missing(l.counts)
	if len(missing) > 0 {
		if _, gap, passed := f.backlog.State(); !gap && passed < l.lsn && !(l.waited && late) {
			l.waited = true
			return false
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		f.complete(l, missing)
	} else {
		f.slow = 0
	}
	f.close(l.snap)
	return true
}

// complete is feed.complete.
func (f *simFeed) complete(l *simLook, missing []uint64) {
	found, counts := rowSet{limit: f.config.MemoryLimit / 4}, make(map[uint64]int)
	for _, r := range f.sim.server.of(missing) {
		counts[r.XID]++
		found.add(r)
	}
	if found.over {
		f.demoteAll(counts)
	}
	f.dispatchNew(found.rows)
	_, gap, passed := f.backlog.State()
	f.slow++
	switch {
	case gap:
		f.endStreaming("the stream lost rows")
	case passed >= l.lsn:
		if !f.sim.server.holes {
			f.sim.failf("the stream is found to have a hole: it had brought all up to %s, but transactions %d are missing", passed, missing)
		}
		f.trustFrom = time.Now().Add(time.Hour)
		f.endStreaming("the stream has a hole")
	case f.slow >= slowWindows:
		f.endStreaming("the stream is behind")
	}
}

// trust lets the time pass after which a stream that had a hole is relied on again.
func (f *simFeed) trust() { f.trustFrom = time.Time{} }

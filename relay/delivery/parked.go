package delivery

import (
	"container/heap"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/limits"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// entry is a parked delivery as its runner remembers it. The message itself is in the table.
type entry struct {
	id, born  int64
	xid       uint64 // 0: not known
	keyClass         // the class is that of the cursor that it belongs to
	state     string
	attempts  int
	due       time.Time
	stored    string // the state that its row had when the table was last heard of, or may have by now; "": there is none
	busy      bool   // being loaded, or in a lane
	leaving   bool   // forgotten as soon as its last change is durable
	heapIndex int    // in the heap of what is due, -1 if it is not there

	failedAt int // number of the last delivery that had started when it failed; 0: this runner does not know

	loan
}

// loan is how an entry was leased the last time.
type loan struct {
	token    int64         // of the attempt
	lease    time.Duration // of the attempt
	worker   string        // who had it, if the sink leases by itself
	progress []byte        // how far it has come, as it has said since this runner has known it
	of       *limits.Value // what a lease of the sink's counts towards
	since    time.Time     // when it was handed out; zero: not known
	topic    string        // the message's, for whoever listens; empty: not known
}

// lessors says whether the entry is one that the sink has leased itself: no callback comes for it.
func (e *entry) lessors() bool { return e.state == states.Leased && e.worker != "" }

func (e *entry) ident() snapshot.Ident { return snapshot.Ident{ID: e.id, Born: e.born} }

func (e *entry) place() snapshot.Place { return snapshot.Place{Ident: e.ident(), XID: e.xid} }

// durable says whether the table has the entry in a state in which it can be loaded: saves of later such states may still be under way.
func (e *entry) durable() bool { return e.stored != "" && states.Of(e.stored).Loadable() }

// ParkOp is a change to the parked table that waits for the next save.
type ParkOp struct {
	entry   *entry
	Insert  *message.Row // the message, for a new row
	bare    bool         // without a copy of what it carries
	Careful bool         // a save has failed for that copy, or for another's
	remove  bool
	reason  string

	// What to write, as it was when the save began.
	state    string
	attempts int
	due      time.Time
	token    int64
	lease    time.Duration
	worker   string
	progress []byte
}

// fix copies from the entry what the save will write.
func (o *ParkOp) fix() {
	e := o.entry
	o.state, o.attempts, o.due, o.token, o.lease, o.worker, o.progress = e.state, e.attempts, e.due, e.token, e.lease, e.worker, e.progress
}

// parkedSet keeps a subscription's parked deliveries in order: by row, per key, and by the time that they are due.
type parkedSet struct {
	byID    map[snapshot.Ident]*entry
	keys    map[keyClass][]*entry // what blocks a key, in order of insertion; empty keys block nothing and are not here
	out     map[string][]*entry   // what is leased of a key
	due     dueHeap
	blocked crowd                 // that count towards max_parked
	later   int                   // scheduled
	waiting int                   // for callbacks
	leases  map[int64]*entry      // by token: those of the sink's own
	onLease func(e *entry, n int) // called when one of these comes or goes; nil if nobody counts them
	ops     map[snapshot.Ident]*ParkOp
	saving  map[snapshot.Ident]*ParkOp // of all saves under way
	unsaved int64                      // bytes of the messages in ops and saving
}

func newParkedSet(maxParked int, oneKey bool) *parkedSet {
	return &parkedSet{blocked: newCrowd(maxParked, oneKey), byID: make(map[snapshot.Ident]*entry), keys: make(map[keyClass][]*entry), leases: make(map[int64]*entry), ops: make(map[snapshot.Ident]*ParkOp)}
}

// add takes an entry in.
func (p *parkedSet) add(e *entry) {
	e.heapIndex = -1
	p.byID[e.ident()] = e
	p.enter(e)
}

// enter files the entry by its state.
func (p *parkedSet) enter(e *entry) {
	s := states.Of(e.state)
	if s.Due == states.DueTry {
		p.await(e)
	}
	p.count(e, 1)
	p.isOut(e)
	if s.Blocks && e.key != "" {
		list := p.keys[e.keyed()]
		at, _ := slices.BinarySearchFunc(list, e.place(), func(x *entry, at snapshot.Place) int { return x.place().Compare(at) })
		p.keys[e.keyed()] = slices.Insert(list, at, e)
	}
}

// count keeps the numbers of entries by what their states say.
func (p *parkedSet) count(e *entry, n int) {
	if e.lessors() { // somebody works on it: it waits for nothing
		if p.leases[e.token] = e; n < 0 {
			delete(p.leases, e.token)
		}
		if p.onLease != nil {
			p.onLease(e, n)
		}
		return
	}
	if states.Of(e.state).Counts {
		p.blocked.add(e.key, n)
	}
	switch e.state {
	case states.Scheduled:
		p.later += n
	case states.Leased:
		p.waiting += n
	}
}

// await puts the entry among those that have a time.
func (p *parkedSet) await(e *entry) { heap.Push(&p.due, e) }

// leave undoes enter.
func (p *parkedSet) leave(e *entry) {
	if e.heapIndex >= 0 {
		heap.Remove(&p.due, e.heapIndex)
	}
	s := states.Of(e.state)
	p.count(e, -1)
	p.isBack(e)
	if !s.Blocks || e.key == "" {
		return
	}
	list := slices.DeleteFunc(p.keys[e.keyed()], func(x *entry) bool { return x == e })
	if len(list) == 0 {
		delete(p.keys, e.keyed())
		return
	}
	p.keys[e.keyed()] = list
}

// change moves the entry to another state and remembers to save that.
func (p *parkedSet) change(e *entry, state string, due time.Time, reason string) {
	p.leave(e)
	e.state, e.due = state, due
	p.enter(e)
	p.record(&ParkOp{entry: e, reason: reason})
}

// queueUp makes a scheduled entry that is due wait behind its key's head. It keeps its time: after a restart it has to wait, unlike
// what has always been held, for what its runner has still to read.
func (p *parkedSet) queueUp(e *entry) { p.change(e, states.Held, e.due, "") }

// remove forgets the entry and remembers to delete its row.
func (p *parkedSet) remove(e *entry) {
	p.forget(e)
	p.record(&ParkOp{entry: e, remove: true})
}

// forget drops the entry from memory only.
func (p *parkedSet) forget(e *entry) {
	p.leave(e)
	delete(p.byID, e.ident())
}

// record merges the operation with one for the same row that is not saved yet.
func (p *parkedSet) record(op *ParkOp) {
	if old := p.ops[op.entry.ident()]; old != nil && old.Insert != nil {
		if op.remove {
			p.unsaved -= old.Insert.Size()
			delete(p.ops, op.entry.ident())
			return
		}
		op.Insert, op.bare = old.Insert, old.bare
	} else if op.Insert != nil {
		p.unsaved += op.Insert.Size()
	}
	p.ops[op.entry.ident()] = op
}

// pending says whether the table may not have the entry as it is: a change waits for a save, or for the answer of one.
func (p *parkedSet) pending(m snapshot.Ident) bool { return p.ops[m] != nil || p.saving[m] != nil }

// knows says whether memory is ahead of the message's row in the table.
func (p *parkedSet) knows(m snapshot.Ident) bool {
	return p.byID[m] != nil || p.pending(m)
}

// head returns the entry that its key waits for.
func (p *parkedSet) head(key keyClass) *entry {
	if list := p.keys[key]; len(list) > 0 {
		return list[0]
	}
	return nil
}

// nextDue removes and returns an entry that is due and durable.
func (p *parkedSet) nextDue(now time.Time) *entry {
	if len(p.due) == 0 || p.due[0].due.After(now) || !p.due[0].durable() {
		return nil
	}
	return heap.Pop(&p.due).(*entry)
}

// nextRetry removes and returns the retry that is due next, if its key waits for nothing else. Scheduled ones are not to be early.
func (p *parkedSet) nextRetry() *entry {
	var next *entry
	for _, e := range p.due {
		if e.state == states.Retrying && e.durable() && (e.key == "" || p.head(e.keyed()) == e) && (next == nil || e.due.Before(next.due)) {
			next = e
		}
	}
	if next != nil {
		heap.Remove(&p.due, next.heapIndex)
	}
	return next
}

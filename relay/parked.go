package relay

import (
	"container/heap"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// Package states says what they mean.
const (
	stateRetrying  = states.Retrying
	stateHeld      = states.Held
	stateScheduled = states.Scheduled
	stateLeased    = states.Leased
	stateDead      = states.Dead
	stateDiscarded = states.Discarded
)

// entry is a parked delivery as its runner remembers it. The message itself is in the table.
type entry struct {
	id, born  int64
	xid       uint64 // 0: not known
	key       string
	state     string
	attempts  int
	due       time.Time
	stored    string // the state that its row had when the table was last heard of; "": there is none
	busy      bool   // being loaded, or in a lane
	leaving   bool   // forgotten as soon as its last change is durable
	heapIndex int    // in the heap of what is due, -1 if it is not there

	failedAt int // number of the last delivery that had started when it failed; 0: this runner does not know

	token int64         // of the attempt that was leased
	lease time.Duration // of that attempt
}

func (e *entry) ident() snapshot.Ident { return snapshot.Ident{ID: e.id, Born: e.born} }

func (e *entry) place() snapshot.Place { return snapshot.Place{Ident: e.ident(), XID: e.xid} }

// durable says whether the table has the entry in a state in which it can be loaded: saves of later states may still be under way.
func (e *entry) durable() bool { return e.stored != "" && states.Of(e.stored).Loadable() }

// parkOp is a change to the parked table that waits for the next save.
type parkOp struct {
	entry   *entry
	insert  *message.Row // the message, for a new row
	bare    bool         // without a copy of what it carries
	careful bool         // a save has failed for that copy, or for another's
	remove  bool
	reason  string

	// What to write, as it was when the save began.
	state    string
	attempts int
	due      time.Time
	token    int64
	lease    time.Duration
}

// fix copies from the entry what the save will write.
func (o *parkOp) fix() {
	e := o.entry
	o.state, o.attempts, o.due, o.token, o.lease = e.state, e.attempts, e.due, e.token, e.lease
}

// parkedSet keeps a subscription's parked deliveries in order: by row, per key, and by the time that they are due.
type parkedSet struct {
	byID    map[snapshot.Ident]*entry
	keys    map[string][]*entry // what blocks a key, in order of insertion; empty keys block nothing and are not here
	due     dueHeap
	blocked int // that count towards max_parked
	later   int // scheduled
	waiting int // leased
	ops     map[snapshot.Ident]*parkOp
	saving  map[snapshot.Ident]*parkOp
	unsaved int64 // bytes of the messages in ops and saving
}

func newParkedSet() *parkedSet {
	return &parkedSet{byID: make(map[snapshot.Ident]*entry), keys: make(map[string][]*entry), ops: make(map[snapshot.Ident]*parkOp)}
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
	p.count(s, 1)
	if s.Blocks && e.key != "" {
		list := p.keys[e.key]
		at, _ := slices.BinarySearchFunc(list, e.place(), func(x *entry, at snapshot.Place) int { return x.place().Compare(at) })
		p.keys[e.key] = slices.Insert(list, at, e)
	}
}

// count keeps the numbers of entries by what their states say.
func (p *parkedSet) count(s states.State, n int) {
	if s.Counts {
		p.blocked += n
	}
	switch s.Name {
	case stateScheduled:
		p.later += n
	case stateLeased:
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
	p.count(s, -1)
	if !s.Blocks || e.key == "" {
		return
	}
	list := slices.DeleteFunc(p.keys[e.key], func(x *entry) bool { return x == e })
	if len(list) == 0 {
		delete(p.keys, e.key)
		return
	}
	p.keys[e.key] = list
}

// change moves the entry to another state and remembers to save that.
func (p *parkedSet) change(e *entry, state string, due time.Time, reason string) {
	p.leave(e)
	e.state, e.due = state, due
	p.enter(e)
	p.record(&parkOp{entry: e, reason: reason})
}

// queueUp makes a scheduled entry that is due wait behind its key's head. It keeps its time: after a restart it has to wait, unlike
// what has always been held, for what its runner has still to read.
func (p *parkedSet) queueUp(e *entry) { p.change(e, stateHeld, e.due, "") }

// remove forgets the entry and remembers to delete its row.
func (p *parkedSet) remove(e *entry) {
	p.forget(e)
	p.record(&parkOp{entry: e, remove: true})
}

// forget drops the entry from memory only.
func (p *parkedSet) forget(e *entry) {
	p.leave(e)
	delete(p.byID, e.ident())
}

// record merges the operation with one for the same row that is not saved yet.
func (p *parkedSet) record(op *parkOp) {
	if old := p.ops[op.entry.ident()]; old != nil && old.insert != nil {
		if op.remove {
			p.unsaved -= old.insert.Size()
			delete(p.ops, op.entry.ident())
			return
		}
		op.insert, op.bare = old.insert, old.bare
	} else if op.insert != nil {
		p.unsaved += op.insert.Size()
	}
	p.ops[op.entry.ident()] = op
}

// saved forgets the changes that have been saved.
func (p *parkedSet) saved() {
	for _, op := range p.saving {
		if op.insert != nil {
			p.unsaved -= op.insert.Size()
		}
	}
	p.saving = nil
}

// pending says whether the table may not have the entry as it is: a change waits for a save, or for the answer of one.
func (p *parkedSet) pending(m snapshot.Ident) bool { return p.ops[m] != nil || p.saving[m] != nil }

// knows says whether memory is ahead of the message's row in the table.
func (p *parkedSet) knows(m snapshot.Ident) bool {
	return p.byID[m] != nil || p.pending(m)
}

// head returns the entry that its key waits for.
func (p *parkedSet) head(key string) *entry {
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
		if e.state == stateRetrying && e.durable() && (e.key == "" || p.head(e.key) == e) && (next == nil || e.due.Before(next.due)) {
			next = e
		}
	}
	if next != nil {
		heap.Remove(&p.due, next.heapIndex)
	}
	return next
}

// dueHeap orders entries by the time that they are due; of one time, the oldest message goes first.
type dueHeap []*entry

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return h[i].place().Compare(h[j].place()) < 0
}
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.heapIndex = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.heapIndex = -1
	return e
}

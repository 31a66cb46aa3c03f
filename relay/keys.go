package relay

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// So many parked messages are read at once, or so many as the share of memory allows if each has so many bytes.
const (
	maxLoad   = 100
	loadBytes = 4096
)

// loadedRows are messages of parked deliveries, read from the table.
type loadedRows struct {
	entries []*entry
	rows    map[snapshot.Ident]*message.Row
}

// gateState says what a task of a key may do now.
type gateState int

const (
	gateOpen gateState = iota // it may be delivered
	gateWait                  // it stays in its lane: the row that explains the gap before it is not durable yet
	gateHold                  // it becomes an exception behind another one of its key
)

// gate asks whether anything parked stands before the task's key.
func (q *retries) gate(t *task) gateState {
	list := q.parked.keys[t.key]
	switch {
	case len(list) == 0 || list[0] == t.entry || t.entry == nil && list[0].place().Compare(t.row.Place()) > 0:
		return gateOpen // younger ones, such as were scheduled, wait for it, not it for them
	case t.entry == nil && len(list) == 1 && list[0].leaving:
		return gateWait
	}
	return gateHold
}

// strictWait says whether a task must wait because the subscription is strict and something before it is not settled.
func (r *runner) strictWait(t *task) bool {
	if !r.env.order().strict() || t.entry != nil {
		return false
	}
	head := r.retries.parked.head(strictKey)
	return head != nil && head.place().Compare(t.row.Place()) < 0
}

// hold parks a task behind another message of its key.
func (r *runner) hold(t *task) {
	e := t.entry
	if e == nil {
		r.breaker.evidence.heldUnproven++
		r.park(t, stateHeld, time.Time{}, "")
		return
	}
	e.busy = false
	if e.state == stateScheduled {
		r.retries.parked.queueUp(e)
	}
}

// takesDue says whether parked deliveries may go into the lanes now; while the destination is down, as many as a round of probes has
// room for, when nothing else is left to probe with.
func (r *runner) takesDue() bool {
	waiting := r.lanes.tasks + len(r.retries.toLoad)
	if r.env.order().strict() {
		waiting -= len(r.lanes.free) // these wait for the parked ones
	}
	if b := &r.breaker; b.open {
		return !r.retries.loading && len(r.retries.toLoad) < b.rounds.quota && (waiting == len(r.retries.toLoad) || !b.fresh)
	}
	return waiting < r.maxTasks()
}

// takeDue asks for the messages of parked deliveries whose time has come.
func (r *runner) takeDue(now time.Time) {
	for r.takesDue() {
		e := r.retries.parked.nextDue(now)
		if e == nil {
			break
		}
		head := r.retries.parked.head(e.key)
		switch {
		case e.state == stateScheduled && e.key != "" && !r.intake.pass.present:
			r.retries.postpone(e)
		case head == nil || head == e || e.key == "":
			r.retries.load(e)
		case e.state == stateScheduled:
			r.retries.parked.queueUp(e)
			r.intake.dirty = true
		}
		// A retry that is not its key's head goes on when it has become that.
	}
	r.lookFurther()
	r.startLoad()
}

// postpone keeps a message with a key that was scheduled from going before what the runner has still to read.
func (q *retries) postpone(e *entry) {
	e.busy = true
	q.postponed = append(q.postponed, e)
}

// endPostponing lets such messages go: whatever comes before them is now in the lanes or parked.
func (q *retries) endPostponing() {
	for _, e := range q.postponed {
		e.busy = false
		q.parked.await(e)
	}
	q.postponed = nil
}

// unblock lets the key's next parked message go, if there is one that waits for nothing else.
func (q *retries) unblock(key string) {
	head := q.parked.head(key)
	if head != nil && head.durable() && !head.busy && head.state != stateDead && head.state != stateLeased && head.heapIndex < 0 {
		q.load(head)
	}
}

func (q *retries) load(e *entry) {
	e.busy = true
	q.toLoad = append(q.toLoad, e)
}

// startLoad reads messages of parked deliveries from the table.
func (r *runner) startLoad() {
	if r.retries.loading || len(r.retries.toLoad) == 0 {
		return
	}
	n := min(len(r.retries.toLoad), maxLoad, int(max(r.env.budget.Share()/loadBytes, 1)))
	entries := r.retries.toLoad[:n:n]
	r.retries.toLoad = r.retries.toLoad[n:]
	r.retries.loading = true
	ids := make([]int64, n)
	for i, e := range entries {
		ids[i] = e.id
	}
	r.life.done.Go(func() {
		if rows := r.readParked(ids); rows != nil {
			r.retries.loaded.Store(&loadedRows{entries, rows})
			r.life.wake()
		}
	})
}

// readParked retries until it works, with half as many after a read that was cut off; nil if the runner has ended.
func (r *runner) readParked(ids []int64) map[snapshot.Ident]*message.Row {
	retry := async.ReconnectBackoff()
	found := make(map[snapshot.Ident]*message.Row, len(ids))
	for most := len(ids); len(ids) > 0; {
		most = min(most, len(ids))
		rows, err := r.env.passes.db.LoadParkedRows(r.life.reading, r.env.sub.Name, r.env.cursor.epoch, ids[:most])
		if err == nil {
			maps.Copy(found, rows)
			ids = ids[most:]
			retry.Reset()
			r.env.health.Works(health.CannotLoad, r.env.sub.Name)
			continue
		}
		if r.life.reading.Err() != nil {
			return nil
		}
		if store.IsCutOff(err) && most > 1 {
			most /= 2
			retry.Reset()
		}
		r.env.health.Failed(health.CannotLoad, err, r.env.sub.Name)
		r.life.wake()
		if !async.Sleep(r.life.reading, retry.NextBackOff()) {
			return nil
		}
	}
	return found
}

// collectLoaded puts messages that were read from the parked table into their lanes.
func (r *runner) collectLoaded() {
	l := r.retries.loaded.Swap(nil)
	if l == nil {
		return
	}
	r.retries.loading = false
	for _, e := range l.entries {
		row := l.rows[e.ident()]
		if row == nil { // discarded by a command
			r.retries.parked.forget(e)
			r.retries.unblock(e.key)
			continue
		}
		t := &task{row: row, key: e.key, entry: e, attempts: e.attempts}
		t.alone = e.attempts > 0
		r.enqueue(t)
		if t.key == "" { // before what may have to wait for it
			copy(r.lanes.free[1:], r.lanes.free[:len(r.lanes.free)-1])
			r.lanes.free[0] = t
		}
	}
}

// lookFurther reads the next scheduled deliveries when those in memory run out.
func (r *runner) lookFurther() {
	s := &r.retries.scheduled
	if s.horizon.IsZero() || s.loading || r.retries.parked.later > store.MaxScheduled/10 {
		return
	}
	s.loading = true
	from := s.horizon
	r.life.done.Go(func() {
		rows, more, err := r.env.passes.db.LoadScheduled(r.life.reading, r.env.sub.Name, from)
		if err != nil && r.life.reading.Err() == nil {
			r.env.health.Failed(health.CannotSchedule, err, r.env.sub.Name)
			r.life.wake()
			async.Sleep(r.life.reading, time.Second)
		}
		r.mu.Lock()
		s.loading = false
		if err == nil {
			r.env.health.Works(health.CannotSchedule, r.env.sub.Name)
			entries := r.env.entries(rows)
			r.retries.addScheduled(entries)
			s.lookFrom(entries, more)
		}
		r.mu.Unlock()
		r.life.wake()
	})
}

// scheduledAhead is what a runner knows of its scheduled deliveries.
type scheduledAhead struct {
	horizon time.Time // later ones are only in the table; zero: all are known
	unseen  int       // how many are only in the table
	loading bool
	beyond  beyondBound
}

// lookFrom sets the horizon after deliveries were read; more says that there are later ones.
func (s *scheduledAhead) lookFrom(entries []*entry, more bool) {
	s.horizon = time.Time{}
	if more {
		s.horizon = entries[len(entries)-1].due
	} else {
		s.unseen = 0
	}
}

// addScheduled takes in scheduled deliveries that were read from the table, in order of time.
func (q *retries) addScheduled(entries []*entry) {
	for _, e := range entries {
		if !q.parked.knows(e.ident()) {
			q.parked.add(e)
			q.scheduled.unseen = max(q.scheduled.unseen-1, 0)
		}
	}
}

// acknowledge remembers what the table has now and lets go what waited for it.
func (q *retries) acknowledge() {
	saving := q.parked.saving
	q.parked.saved()
	for m, op := range saving {
		if op.remove {
			continue
		}
		e := op.entry
		e.stored = op.state
		if e.leaving && q.parked.ops[m] == nil {
			q.parked.forget(e)
		}
		if s := &q.scheduled; !s.horizon.IsZero() && !s.loading && e.due.After(s.horizon) {
			q.forgetScheduled(e)
		}
		if e.key != "" {
			q.unblock(e.key)
		}
	}
	q.trimScheduled()
}

// trimScheduled forgets scheduled deliveries when they have become too many for memory: the next ones are looked up again. Not
// while that goes on, since the look-up may be older than what is forgotten.
func (q *retries) trimScheduled() {
	if q.parked.later < 2*store.MaxScheduled || q.scheduled.loading {
		return
	}
	q.scheduled.horizon = store.DistantPast
	for _, e := range q.parked.byID {
		q.forgetScheduled(e)
	}
}

// forgetScheduled drops a scheduled delivery from memory if the table has it as it is.
func (q *retries) forgetScheduled(e *entry) {
	if e.state == stateScheduled && e.stored == stateScheduled && !e.busy && !q.parked.pending(e.ident()) {
		q.parked.forget(e)
		q.scheduled.unseen++
	}
}

// retries are the deliveries that wait for something: parked, or to be read from the table.
type retries struct {
	env       *environment
	parked    *parkedSet
	postponed []*entry // scheduled, due, and waiting for that
	scheduled scheduledAhead
	toLoad    []*entry
	loading   bool
	loaded    atomic.Pointer[loadedRows]
}

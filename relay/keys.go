package relay

import (
	"maps"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
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
func (r *runner) gate(t *task) gateState {
	list := r.parked.keys[t.key]
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
	if r.sub.Settings.Ordering != subscription.OrderStrict || t.entry != nil {
		return false
	}
	head := r.parked.head(strictKey)
	return head != nil && head.place().Compare(t.row.Place()) < 0
}

// hold parks a task behind another message of its key.
func (r *runner) hold(t *task) {
	e := t.entry
	if e == nil {
		r.heldUnproven++
		r.park(t, stateHeld, time.Time{}, "")
		return
	}
	e.busy = false
	if e.state == stateScheduled {
		r.parked.queueUp(e)
	}
}

// takesDue says whether parked deliveries may go into the lanes now; while the destination is down, as many as a round of probes has
// room for, when nothing else is left to probe with.
func (r *runner) takesDue() bool {
	waiting := r.tasks + len(r.toLoad)
	if r.sub.Settings.Ordering == subscription.OrderStrict {
		waiting -= len(r.free) // these wait for the parked ones
	}
	if b := &r.breaker; b.open {
		return !r.loading && len(r.toLoad) < b.quota && (waiting == len(r.toLoad) || !b.fresh)
	}
	return waiting < r.maxTasks()
}

// takeDue asks for the messages of parked deliveries whose time has come.
func (r *runner) takeDue(now time.Time) {
	for r.takesDue() {
		e := r.parked.nextDue(now)
		if e == nil {
			break
		}
		head := r.parked.head(e.key)
		switch {
		case e.state == stateScheduled && e.key != "" && !r.present:
			r.postpone(e)
		case head == nil || head == e || e.key == "":
			r.load(e)
		case e.state == stateScheduled:
			r.parked.queueUp(e)
			r.dirty = true
		}
		// A retry that is not its key's head goes on when it has become that.
	}
	r.lookFurther()
	r.startLoad()
}

// postpone keeps a message with a key that was scheduled from going before what the runner has still to read.
func (r *runner) postpone(e *entry) {
	e.busy = true
	r.postponed = append(r.postponed, e)
}

// endPostponing lets such messages go: whatever comes before them is now in the lanes or parked.
func (r *runner) endPostponing() {
	r.present = true
	for _, e := range r.postponed {
		e.busy = false
		r.parked.await(e)
	}
	r.postponed = nil
}

// releaseKey lets the key's next parked message go, if there is one that waits for nothing else.
func (r *runner) releaseKey(key string) {
	head := r.parked.head(key)
	if head != nil && head.durable() && !head.busy && head.state != stateDead && head.state != stateLeased && head.heapIndex < 0 {
		r.load(head)
	}
}

func (r *runner) load(e *entry) {
	e.busy = true
	r.toLoad = append(r.toLoad, e)
}

// startLoad reads messages of parked deliveries from the table.
func (r *runner) startLoad() {
	if r.loading || len(r.toLoad) == 0 {
		return
	}
	n := min(len(r.toLoad), maxLoad, int(max(r.budget.share()/loadBytes, 1)))
	entries := r.toLoad[:n:n]
	r.toLoad = r.toLoad[n:]
	r.loading = true
	ids := make([]int64, n)
	for i, e := range entries {
		ids[i] = e.id
	}
	r.done.Go(func() {
		if rows := r.readParked(ids); rows != nil {
			r.loaded.Store(&loadedRows{entries, rows})
			r.wake()
		}
	})
}

// readParked retries until it works, with half as many after a read that was cut off; nil if the runner has ended.
func (r *runner) readParked(ids []int64) map[snapshot.Ident]*message.Row {
	retry := async.ReconnectBackoff()
	found := make(map[snapshot.Ident]*message.Row, len(ids))
	for most := len(ids); len(ids) > 0; {
		most = min(most, len(ids))
		rows, err := r.passes.loadParkedRows(r.reading, r.sub.Name, r.cursor.epoch, ids[:most])
		if err == nil {
			maps.Copy(found, rows)
			ids = ids[most:]
			retry.Reset()
			r.health.works(cannotLoad, r.sub.Name)
			continue
		}
		if r.reading.Err() != nil {
			return nil
		}
		if isCutOff(err) && most > 1 {
			most /= 2
			retry.Reset()
		}
		r.health.failed(cannotLoad, err, r.sub.Name)
		r.wake()
		if !async.Sleep(r.reading, retry.NextBackOff()) {
			return nil
		}
	}
	return found
}

// collectLoaded puts messages that were read from the parked table into their lanes.
func (r *runner) collectLoaded() {
	l := r.loaded.Swap(nil)
	if l == nil {
		return
	}
	r.loading = false
	for _, e := range l.entries {
		row := l.rows[e.ident()]
		if row == nil { // discarded by a command
			r.parked.forget(e)
			r.releaseKey(e.key)
			continue
		}
		t := &task{row: row, key: e.key, entry: e, attempts: e.attempts}
		t.alone = e.attempts > 0
		r.enqueue(t)
		if t.key == "" { // before what may have to wait for it
			copy(r.free[1:], r.free[:len(r.free)-1])
			r.free[0] = t
		}
	}
}

// lookFurther reads the next scheduled deliveries when those in memory run out.
func (r *runner) lookFurther() {
	s := &r.scheduled
	if s.horizon.IsZero() || s.loading || r.parked.later > maxScheduled/10 {
		return
	}
	s.loading = true
	from := s.horizon
	r.done.Go(func() {
		entries, more, err := loadScheduled(r.reading, r.passes.pool, r.sub.Name, from)
		if err != nil && r.reading.Err() == nil {
			r.health.failed(cannotSchedule, err, r.sub.Name)
			r.wake()
			async.Sleep(r.reading, time.Second)
		}
		r.mu.Lock()
		s.loading = false
		if err == nil {
			r.health.works(cannotSchedule, r.sub.Name)
			r.addScheduled(entries)
			s.lookFrom(entries, more)
		}
		r.mu.Unlock()
		r.wake()
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
func (r *runner) addScheduled(entries []*entry) {
	for _, e := range entries {
		if !r.parked.knows(e.ident()) {
			r.parked.add(e)
			r.scheduled.unseen = max(r.scheduled.unseen-1, 0)
		}
	}
}

// acknowledge remembers what the table has now and lets go what waited for it.
func (r *runner) acknowledge() {
	saving := r.parked.saving
	r.parked.saved()
	for m, op := range saving {
		if op.remove {
			continue
		}
		e := op.entry
		e.stored = op.state
		if e.leaving && r.parked.ops[m] == nil {
			r.parked.forget(e)
		}
		if s := &r.scheduled; !s.horizon.IsZero() && !s.loading && e.due.After(s.horizon) {
			r.forgetScheduled(e)
		}
		if e.key != "" {
			r.releaseKey(e.key)
		}
	}
	r.trimScheduled()
}

// trimScheduled forgets scheduled deliveries when they have become too many for memory: the next ones are looked up again. Not
// while that goes on, since the look-up may be older than what is forgotten.
func (r *runner) trimScheduled() {
	if r.parked.later < 2*maxScheduled || r.scheduled.loading {
		return
	}
	r.scheduled.horizon = distantPast
	for _, e := range r.parked.byID {
		r.forgetScheduled(e)
	}
}

// forgetScheduled drops a scheduled delivery from memory if the table has it as it is.
func (r *runner) forgetScheduled(e *entry) {
	if e.state == stateScheduled && e.stored == stateScheduled && !e.busy && !r.parked.pending(e.ident()) {
		r.parked.forget(e)
		r.scheduled.unseen++
	}
}

package delivery

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// So many parked messages are read at once, or so many as the share of memory allows if each has so many bytes.
const (
	maxLoad   = 100
	loadBytes = 4096
)

// retries are the deliveries that wait for something: parked, or to be read from the table.
type retries struct {
	env       *Environment
	intakes   []*intake
	parked    *parkedSet
	postponed []*entry // Scheduled, due, and waiting for that
	scheduled scheduledAhead
	toLoad    []*entry
	lent      loan // of what is being leased
	loading   bool
	loaded    atomic.Pointer[loadedRows]
}

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
	list := q.parked.keys[t.keyed()]
	switch {
	case q.parked.outBeside(t.key, t.entry):
		return gateHold
	case len(list) == 0 || list[0] == t.entry || t.entry == nil && list[0].place().Compare(t.row.Place()) > 0:
		return gateOpen // younger ones, such as were scheduled, wait for it, not it for them
	case t.entry == nil && len(list) == 1 && list[0].leaving:
		return gateWait
	}
	return gateHold
}

// strictWait says whether a task must wait because the subscription is strict and something before it is not settled.
func (r *Runner) strictWait(t *task) bool {
	if !r.Env.order().strict() || t.entry != nil {
		return false
	}
	head := r.retries.parked.head(keyClass{key: strictKey})
	return head != nil && head.place().Compare(t.row.Place()) < 0
}

// hold parks a task behind another message of its key.
func (r *Runner) hold(t *task) {
	e := t.entry
	if e == nil {
		r.breaker.evidence.heldUnproven++
		if t.fault != nil {
			t.attempts = 0 // nothing said that it was to blame
		}
		r.park(t, states.Held, time.Time{}, "")
		return
	}
	e.busy = false
	if e.state == states.Scheduled {
		r.retries.parked.queueUp(e)
	}
}

// takesDue says whether parked deliveries may go into the lanes now; while the destination is down, as many as a round of probes has
// room for, when nothing else is left to probe with.
func (r *Runner) takesDue() bool {
	waiting := r.lanes.tasks + len(r.retries.toLoad)
	if r.Env.order().strict() {
		waiting -= r.lanes.free.n // these wait for the parked ones
	}
	if b := &r.breaker; b.open {
		return !r.retries.loading && len(r.retries.toLoad) < b.rounds.quota && (waiting == len(r.retries.toLoad) || !b.fresh)
	}
	return waiting < r.maxTasks()*len(r.intakes)
}

// takeDue asks for the messages of parked deliveries whose time has come.
func (r *Runner) takeDue(now time.Time) {
	for r.takesDue() {
		e := r.retries.parked.nextDue(now)
		if e == nil {
			break
		}
		head := r.retries.parked.head(e.keyed())
		switch {
		case e.state == states.Scheduled && e.key != "" && !r.retries.intakeOf(e.class).pass.present:
			r.retries.postpone(e)
		case head == nil || head == e || e.key == "":
			r.retries.load(e)
		case e.state == states.Scheduled:
			r.retries.parked.queueUp(e)
			r.retries.intakeOf(e.class).dirty = true
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

// endPostponing lets such messages of a class go: whatever comes before them is now in the lanes or parked.
func (q *retries) endPostponing(in *intake) {
	q.postponed = slices.DeleteFunc(q.postponed, func(e *entry) bool {
		if q.intakeOf(e.class) != in {
			return false
		}
		e.busy = false
		q.parked.await(e)
		return true
	})
}

// unblock lets the key's next parked message go, if there is one that waits for nothing else.
func (q *retries) unblock(key keyClass) {
	head := q.parked.head(key)
	if head != nil && !q.parked.outBeside(key.key, head) && head.durable() && states.Of(head.state).Loadable() && !head.busy && head.heapIndex < 0 {
		q.load(head)
	}
}

// unblockOthers lets messages of other classes go that waited because this one of their key was out.
func (q *retries) unblockOthers(e *entry) {
	if len(q.intakes) == 1 || e.key == "" {
		return
	}
	for _, in := range q.intakes {
		q.unblock(keyClass{e.key, in.part.Class})
	}
}

func (q *retries) load(e *entry) {
	e.busy = true
	q.toLoad = append(q.toLoad, e)
}

// startLoad reads messages of parked deliveries from the table.
func (r *Runner) startLoad() {
	if r.retries.loading || len(r.retries.toLoad) == 0 {
		return
	}
	n := min(len(r.retries.toLoad), maxLoad, int(max(r.Env.Budget.Share()/loadBytes, 1)))
	entries := r.retries.toLoad[:n:n]
	r.retries.toLoad = r.retries.toLoad[n:]
	r.retries.loading = true
	ids := make([]int64, n)
	for i, e := range entries {
		ids[i] = e.id
	}
	r.Life.done.Go(func() {
		if rows := r.readParked(ids); rows != nil {
			r.retries.loaded.Store(&loadedRows{entries, rows})
			r.Life.Wake()
		}
	})
}

// readParked retries until it works, with half as many after a read that was cut off; nil if the runner has ended.
func (r *Runner) readParked(ids []int64) map[snapshot.Ident]*message.Row {
	retry := async.ReconnectBackoff()
	found := make(map[snapshot.Ident]*message.Row, len(ids))
	for most := len(ids); len(ids) > 0; {
		most = min(most, len(ids))
		rows, err := r.Env.Passes.DB.LoadParkedRows(r.Life.reading, r.Part(), r.Env.Cursor.Epoch, ids[:most])
		if err == nil {
			maps.Copy(found, rows)
			ids = ids[most:]
			retry.Reset()
			r.Env.Health.Works(health.CannotLoad, r.Env.Sub.Name)
			continue
		}
		if r.Life.reading.Err() != nil {
			return nil
		}
		if store.IsCutOff(err) && most > 1 {
			most /= 2
			retry.Reset()
		}
		r.Env.Health.Failed(health.CannotLoad, err, r.Env.Sub.Name)
		r.Life.Wake()
		if !async.Sleep(r.Life.reading, retry.NextBackOff()) {
			return nil
		}
	}
	return found
}

// collectLoaded puts messages that were read from the parked table into their lanes.
func (r *Runner) collectLoaded() {
	l := r.retries.loaded.Swap(nil)
	if l == nil {
		return
	}
	r.retries.loading = false
	for _, e := range l.entries {
		row := l.rows[e.ident()]
		if row == nil { // discarded by a command
			r.retries.parked.forget(e)
			r.retries.unblock(e.keyed())
			continue
		}
		t := r.retries.taskOf(e)
		t.row, t.alone = row, e.attempts > 0
		if !r.filtered(t) {
			r.enqueue(t)
		}
	}
}

// acknowledge remembers what the table has now and lets go what waited for it.
func (q *retries) acknowledge(class int16, ops map[snapshot.Ident]*ParkOp) {
	q.parked.saved(class, ops)
	for m, op := range ops {
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
			q.unblock(e.keyed())
		}
	}
	q.trimScheduled()
}

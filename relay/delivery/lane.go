package delivery

import (
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
)

// lane hands one batch at a time to the sink. While it is busy, batch, deliveries and outcomes belong to its goroutine, or to a sender.
type lane struct {
	batchMax   int
	queue      []*task             // of the keys that hash here
	key        string              // of a sender: the only one
	ready      bool                // of a sender: it is in the list of that name
	ended      func(outcome error) // of a sender: called when the delivery has ended
	busy       bool
	probes     bool // its batch is a probe
	started    int  // number of its delivery
	batch      []*task
	deliveries []sinks.Delivery
	outcomes   []error
	doubted    bool // nobody should count on an answer
	begin      chan struct{}
	done       sync.WaitGroup
}

// send starts the delivery of the lane's batch.
func (l *lane) send(r *Runner) {
	l.deliveries, l.outcomes = l.deliveries[:0], l.outcomes[:0]
	r.Lanes.started++
	l.started = r.Lanes.started
	for _, t := range l.batch {
		l.deliveries = append(l.deliveries, sinks.Delivery{Message: &t.row.Message, Subscription: r.Env.Sub.Name, Attempt: t.attempts + 1})
		l.outcomes = append(l.outcomes, nil)
	}
	if l.batch[0].row.Withheld {
		r.Lanes.alone++
		l.doubted = r.inDoubt() || l.batch[0].attempts > 0
	}
	l.busy = true
	r.Lanes.inFlight++
	if r.Lanes.sending.to != nil {
		r.sendOne(l)
		return
	}
	if l.begin == nil { // most subscriptions never need most of their lanes
		l.begin = make(chan struct{}, 1)
		l.done.Go(func() { l.work(r) })
	}
	l.begin <- struct{}{}
}

func (l *lane) work(r *Runner) {
	for range l.begin {
		if l.batch[0].row.Withheld { // it is alone
			r.deliverWithheld(l)
		} else {
			r.Env.Sink.Deliver(r.Life.deliver, l.deliveries, l.outcomes)
		}
		r.finish(l)
	}
}

// close ends the lane's goroutine after the delivery under way.
func (l *lane) close() {
	if l.begin != nil {
		close(l.begin)
	}
}

// finish is called by lanes: a batch has come back.
func (r *Runner) finish(l *lane) {
	r.Lanes.finished.Lock()
	r.Lanes.finished.lanes = append(r.Lanes.finished.lanes, l)
	r.Lanes.finished.Unlock()
	r.Life.Wake()
}

// collectFinished returns the lanes whose batches have come back; they are valid until the next call.
func (ls *lanes) collectFinished() []*lane {
	ls.finished.Lock()
	defer ls.finished.Unlock()
	lanes := ls.finished.lanes
	ls.finished.lanes, ls.finished.collected = ls.finished.collected[:0], lanes
	return lanes
}

// enqueue puts a task where a lane will find it.
func (r *Runner) enqueue(t *task) {
	ls := &r.Lanes
	ls.Tasks++
	ls.bytes += t.row.Size()
	r.breaker.fresh = true
	r.limits.join(t)
	if t.key == "" && ls.sending.to == nil {
		ls.free = append(ls.free, t)
		return
	}
	l := r.laneFor(t)
	l.queue = append(l.queue, t)
	if ls.sending.to != nil {
		t.lane = l
		ls.makeReady(l)
	}
}

// laneOf maps a key to its lane, fixed for the runner's life (FNV-1a).
func (ls *lanes) laneOf(key string) *lane {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return ls.all[h%uint32(len(ls.all))]
}

// free takes a task that is in no queue out of all accounts.
func (r *Runner) free(t *task) {
	r.Lanes.Tasks--
	r.Lanes.bytes -= t.row.Size()
	r.limits.leave(t)
	if t.fault != nil {
		r.breaker.evidence.suspects--
	}
}

// dispatch hands batches to idle lanes.
func (r *Runner) dispatch(now time.Time) {
	switch {
	case r.breaker.open:
		r.probe(now)
		return
	case r.Lanes.sending.to != nil:
		r.sendReady()
	default:
		r.sendBatches(now)
	}
	if r.onlySuspects() {
		r.breaker.trip(now, 0, errSuspects, r.Lanes.started)
	}
}

func (r *Runner) sendBatches(now time.Time) {
	for _, l := range r.Lanes.all {
		if l.busy || len(l.queue) == 0 && len(r.Lanes.free) == 0 || r.linger(l, now) || !r.allotLane(l) {
			continue
		}
		r.form(l, l.batchMax)
		if len(l.batch) > 0 {
			l.send(r)
		}
	}
}

// linger says whether a lane shall wait until it has a full batch. It does so until its oldest message has waited long
// enough; parked ones, which come back when they are due, wait for nothing, nor does anybody if the runner takes in no more.
func (r *Runner) linger(l *lane, now time.Time) bool {
	most := time.Duration(r.Env.Sub.Settings.Linger)
	if most == 0 || len(l.queue)+len(r.Lanes.free) >= l.batchMax || r.Full() {
		return false
	}
	until := time.Time{}
	for _, queue := range [][]*task{l.queue, r.Lanes.free} {
		if len(queue) == 0 {
			continue
		}
		if end := queue[0].since.Add(most); until.IsZero() || end.Before(until) {
			until = end
		}
	}
	if !now.Before(until) {
		return false
	}
	if r.Lanes.Lingers.IsZero() || until.Before(r.Lanes.Lingers) {
		r.Lanes.Lingers = until
	}
	return true
}

// scanAhead bounds how far beyond a batch's size a lane looks for keys that the batch does not have yet.
const scanAhead = 4

// form fills the lane's batch with at most most tasks, at most one per key. What is still to be read goes alone.
func (r *Runner) form(l *lane, most int) {
	l.batch = l.batch[:0]
	if len(l.queue) > 0 {
		most = r.formKeyed(l, most)
	}
	strict := r.Env.order().strict()
	kept := r.Lanes.free[:0] // few enough to be moved
	for i, t := range r.Lanes.free {
		if len(l.batch) >= most || r.strictWait(t) || strict && (r.breaker.restrained(t) || !r.limits.lets(t)) {
			kept = append(kept, r.Lanes.free[i:]...)
			break
		}
		if r.breaker.restrained(t) || !r.takes(l, t, &most) {
			kept = append(kept, t)
		}
	}
	clear(r.Lanes.free[len(kept):])
	r.Lanes.free = kept
}

// takes adds the task to the lane's batch, unless it must go alone and would not; most is lowered when it does.
func (r *Runner) takes(l *lane, t *task, most *int) bool {
	if t.alone || t.row.Withheld {
		if len(l.batch) > 0 || r.tooLarge(t) {
			return false
		}
	}
	if !r.limits.begin(t) {
		return false
	}
	if t.alone || t.row.Withheld {
		*most = 1
	}
	l.batch = append(l.batch, t)
	return true
}

// tooLarge says whether the task cannot go yet because another one that is to be read is under way to a destination that is in doubt: it
// would take memory that others have a use for.
func (r *Runner) tooLarge(t *task) bool { return t.row.Withheld && r.Lanes.alone > 0 && r.inDoubt() }

// inDoubt says whether the destination does not work, or has not shown yet that it does.
func (r *Runner) inDoubt() bool { return r.breaker.open || r.breaker.evidence.throughAt == 0 }

// logFirst says whether a strict subscription's next message is from the log, not this parked one.
func (r *Runner) logFirst(t *task) bool {
	return r.Env.order().strict() && len(r.Lanes.free) > 0 && r.Lanes.free[0].row.ID < t.row.ID && !r.strictWait(r.Lanes.free[0])
}

// farEnough says whether a lane has looked at enough. Suspects, and what limits keep back, may stand before all others for long.
func (r *Runner) farEnough(l *lane, looked int) bool {
	return looked >= scanAhead*l.batchMax && r.breaker.evidence.suspects == 0 && r.limits.Limiter == nil
}

// formKeyed returns the bound on the batch that its tasks leave.
func (r *Runner) formKeyed(l *lane, most int) int {
	keys := r.Lanes.keys
	if keys == nil {
		keys = make(map[string]bool)
		r.Lanes.keys = keys
	}
	defer clear(keys)
	kept, stuck := l.queue[:0], 0
	for i, t := range l.queue {
		if len(l.batch) >= most || r.farEnough(l, i-stuck) {
			kept = append(kept, l.queue[i:]...)
			break
		}
		if keys[t.key] {
			kept = append(kept, t)
			continue
		}
		switch r.Retries.gate(t) {
		case gateOpen:
			keys[t.key] = true
			if r.logFirst(t) || r.breaker.restrained(t) || !r.takes(l, t, &most) {
				kept = append(kept, t)
			}
		case gateWait:
			keys[t.key] = true
			kept = append(kept, t)
		case gateHold:
			if !r.holds(t) {
				stuck++ // whom it waits for may stand behind it
				kept = append(kept, t)
				continue
			}
			r.free(t)
			r.hold(t)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	return most
}

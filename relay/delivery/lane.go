package delivery

import (
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
)

// lane hands one batch at a time to the sink. While it is busy, batch, deliveries and outcomes belong to its goroutine, or to a sender.
type lane struct {
	batchMax   int
	queue      waiting             // of the keys that hash here
	key        string              // of a sender: the only one
	ready      int                 // of a sender: one more than the place of the class in whose list of that name it is; 0: in none
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
func (l *lane) send(r *Runner, now time.Time) {
	l.deliveries, l.outcomes = l.deliveries[:0], l.outcomes[:0]
	r.lanes.started++
	l.started = r.lanes.started
	for _, t := range l.batch {
		l.deliveries = append(l.deliveries, sinks.Delivery{Message: &t.row.Message, Subscription: r.Env.Sub.Name, Attempt: t.attempts + 1})
		l.outcomes = append(l.outcomes, nil)
		t.sent = now
	}
	if l.batch[0].row.Withheld {
		r.lanes.alone++
		l.doubted = r.inDoubt() || l.batch[0].attempts > 0
	}
	l.busy = true
	r.lanes.inFlight++
	if r.lanes.sending.to != nil {
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
			r.deliver(l)
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
	r.lanes.finished.Lock()
	r.lanes.finished.lanes = append(r.lanes.finished.lanes, l)
	r.lanes.finished.Unlock()
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
	if r.cancelTask(t) {
		return
	}
	ls := &r.lanes
	ls.count(t, 1)
	r.breaker.fresh = true
	r.joinLimits(t)
	if t.key == "" && ls.sending.to == nil {
		ls.free.addUnkeyed(t)
		return
	}
	l := r.laneFor(t)
	l.queue.add(t)
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
	r.lanes.count(t, -1)
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
	case r.lanes.sending.to != nil:
		r.sendReady(now)
	default:
		r.sendBatches(now)
	}
	if r.onlySuspects() {
		r.breaker.trip(now, failedDelivery{err: errSuspects}, r.lanes.started)
	}
}

func (r *Runner) sendBatches(now time.Time) {
	for _, l := range r.lanes.all {
		if l.busy || l.queue.n == 0 && r.lanes.free.n == 0 || r.linger(l, now) || !r.allotLane(l) {
			continue
		}
		r.form(l, l.batchMax, now)
		if len(l.batch) > 0 {
			l.send(r, now)
		}
	}
}

// linger says whether a lane shall wait until it has a full batch. It does so until its oldest message has waited long
// enough; parked ones, which come back when they are due, wait for nothing, nor does anybody if the runner takes in no more.
func (r *Runner) linger(l *lane, now time.Time) bool {
	most := time.Duration(r.Env.Sub.Settings.Linger)
	if most == 0 || l.queue.n+r.lanes.free.n >= l.batchMax || r.someFull() {
		return false
	}
	until := time.Time{}
	for _, queue := range slices.Concat(l.queue.byClass, r.lanes.free.byClass) {
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
	if r.lanes.lingers.IsZero() || until.Before(r.lanes.lingers) {
		r.lanes.lingers = until
	}
	return true
}

package relay

import (
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// intake takes messages in from where the runner stands: from the pass under way, from the feed, or it starts the next pass.
func (r *runner) intake(now time.Time) {
	r.watchQueue()
	if r.prog.done >= maxDone/2 {
		r.advance() // not only when progress is saved
	}
	if r.full() {
		return
	}
	r.intakePage(now)
	switch {
	case r.reader != nil || r.awaiting:
	case r.queue != nil:
		r.intakeLive(now)
	case r.prog.idle():
		r.nextPass()
	}
}

// full says whether the runner must settle something before it takes more in.
func (r *runner) full() bool {
	return r.tasks >= r.maxTasks() || r.taskBytes+r.parked.unsaved+r.scheduled.beyond.bytes >= r.maxTaskBytes() || r.prog.done >= maxDone ||
		r.parked.blocked >= r.sub.Settings.MaxParked || len(r.scheduled.beyond.tasks) >= maxBeyond
}

func (r *runner) maxTasks() int {
	most := max(2*len(r.lanes)*r.lanes[0].batchMax, 64)
	if r.breaker.wide {
		return max(most, widestLook)
	}
	return most
}

func (r *runner) maxTaskBytes() int64 {
	return min(max(r.budget.share(), minLaneBytes), laneBytes)
}

// watchQueue follows what the feed did to the queue.
func (r *runner) watchQueue() {
	if r.queue == nil {
		return
	}
	target, attached, refused := r.queue.state()
	if refused {
		r.endQueue()
		return
	}
	if attached && r.awaiting {
		r.awaiting = false
		snap := target.Snapshot
		r.startReader(&snap, nil)
	}
}

// endQueue loses the queue's rest: a pass will read it again.
func (r *runner) endQueue() {
	if r.queue == nil {
		return
	}
	r.frozen.closed = r.feed.closedWindow() // before drop tells what was not taken
	r.frozen.limit = r.queue.drop()
	if r.awaiting || r.reader != nil {
		r.frozen.closed = snapshot.Closed{} // nothing was taken from it
	}
	r.queue, r.awaiting = nil, false
}

// nextPass starts the next pass: from where the cursor was loaded, to the feed's next closed snapshot if the present is near,
// or to the present.
func (r *runner) nextPass() {
	r.advance()
	if r.resume != nil && r.resume.Target != nil {
		r.startReader(r.resume.Target, r.resume)
		return
	}
	r.resume = nil
	if r.passed && r.passRows > nearRows {
		r.startReader(nil, nil)
		return
	}
	r.queue = r.feed.newQueue(r.filter.current, r.budget, r.wake)
	r.awaiting = true
	r.feed.attach(r.queue)
}

// startReader begins a pass from the base to target, nil for the present.
func (r *runner) startReader(target *snapshot.Snapshot, resume *snapshot.Position) {
	p := &passReader{passes: r.passes, name: r.sub.Name, filter: r.filter, base: r.prog.base, target: target,
		exclude: r.exclude, wake: r.wake, mine: []call{mineCall(r.passes.incarnation, r.sub.Name, r.cursor.epoch)}}
	if resume != nil {
		p.resumed, p.afterID = true, resume.AfterID
	}
	r.passRows, r.passed = 0, true
	r.metrics.passes.Inc()
	r.reader = p
	p.start(r.reading)
}

// intakePage admits rows of the pass under way.
func (r *runner) intakePage(now time.Time) {
	for r.reader != nil && !r.full() {
		if len(r.pageAt.rows) == 0 && !r.nextPage() {
			return
		}
		n := min(len(r.pageAt.rows), r.maxTasks()-r.tasks)
		for n < len(r.pageAt.rows) && r.pageAt.rows[n].ID == r.pageAt.rows[n-1].ID {
			n++ // an id that comes twice is passed at once
		}
		var tasks []*task
		for _, row := range r.pageAt.rows[:n] {
			if r.filter.wants(row) {
				t := r.newTask(row)
				t.seq = r.prog.admitPass(row.Ident())
				tasks = append(tasks, t)
			}
		}
		for _, t := range tasks { // after all of them are known
			r.passRows++
			r.admit(t, now)
		}
		r.pageAt.rows = r.pageAt.rows[n:]
		r.endPage()
	}
}

// nextPage gets the page that was read ahead, if it is there.
func (r *runner) nextPage() bool {
	select {
	case p := <-r.reader.pages:
		if r.prog.pass == nil {
			r.advance()
			after := p.start
			if !p.fresh {
				after = r.reader.afterID
			}
			r.prog.startPass(p.target, after, p.fresh)
			r.frozen.closed, r.frozen.limit = snapshot.Closed{}, nil
			r.resume = nil
		}
		r.pageAt = p
		r.endPage()
		return len(p.rows) > 0
	default:
		return false
	}
}

// endPage ends the pass after its last row was admitted.
func (r *runner) endPage() {
	if len(r.pageAt.rows) > 0 {
		return
	}
	if !r.pageAt.last {
		if r.pageAt.end != 0 && r.prog.reachPass(r.pageAt.end) {
			r.dirty = true
		}
		return
	}
	r.prog.scanPass()
	if !r.reader.resumed { // it ends past what any former runner knew
		r.endPostponing()
	}
	r.reader.stop()
	r.reader, r.pageAt, r.exclude = nil, page{}, false
	r.dirty = true
}

// intakeLive admits messages from the feed.
func (r *runner) intakeLive(now time.Time) {
	for !r.full() { // what is parked or settled at once makes room for more
		rows := r.queue.take(r.maxTasks() - r.tasks)
		if len(rows) == 0 {
			return
		}
		for _, l := range rows {
			t := r.newTask(l.row)
			t.win, t.seq = l.win, r.prog.admitLive(l.win, l.row.Ident())
			r.admit(t, now)
		}
		clear(rows)
	}
}

// tasksAtOnce are allocated together, and live as long as the last of them.
const tasksAtOnce = 16

// newTask makes a task for a message from the log.
func (r *runner) newTask(row *message.Row) *task {
	if len(r.newTasks) == 0 {
		r.newTasks = make([]task, tasksAtOnce)
	}
	t := &r.newTasks[0]
	r.newTasks = r.newTasks[1:]
	t.row, t.key = row, r.keyOf(row)
	return t
}

func (r *runner) keyOf(row *message.Row) string {
	if r.sub.Settings.Ordering != subscription.OrderByKey {
		return ""
	}
	return row.Key
}

// strictKey is what all parked deliveries of a strict subscription have for a key: each waits for those before it.
const strictKey = "\x00"

// parkedKey is the key by which a parked delivery blocks others.
func (r *runner) parkedKey(key string) string {
	switch r.sub.Settings.Ordering {
	case subscription.OrderStrict:
		return strictKey
	case subscription.OrderNone:
		return ""
	}
	return key
}

// admit puts a message from the log into its lane, unless it is settled already or must wait.
func (r *runner) admit(t *task, now time.Time) {
	r.dirty = true
	m := t.row.Ident()
	switch {
	case r.prog.skip.Has(m), r.parked.byID[m] != nil:
		r.settle(t)
	case t.row.DeliverAt.After(now):
		r.schedule(t)
	default:
		t.since = now
		r.enqueue(t)
	}
}

// settle counts a message from the log off.
func (r *runner) settle(t *task) {
	r.dirty = true
	if t.win != nil {
		r.prog.settleLive(t.win, t.seq)
		return
	}
	r.prog.settlePass(t.seq)
}

// advance moves the base as far as the feed's closed snapshots allow.
func (r *runner) advance() {
	if r.queue == nil {
		r.prog.advance(r.frozen.closed, r.frozen.limit)
		return
	}
	if r.awaiting || r.reader != nil {
		return
	}
	closed := r.feed.closedWindow() // before the queue is looked at: its messages are in the queue by then
	r.prog.advance(closed, r.queue.first())
}

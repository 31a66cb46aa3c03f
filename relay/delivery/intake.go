package delivery

import (
	"slices"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// takeIn takes messages of a class in from where that stands: from the pass under way, from the feed, or it starts the next pass.
func (r *Runner) takeIn(in *intake, now time.Time) {
	in.watchQueue()
	if in.prog.Done >= MaxDone/2 {
		in.advance() // not only when progress is saved
	}
	r.leaseOut(in, now)
	if r.full(in) {
		return
	}
	r.intakePage(in, now)
	if in.pass.present {
		r.retries.endPostponing(in)
	}
	switch {
	case in.pass.reader != nil || in.live.awaiting:
	case in.live.queue != nil:
		r.intakeLive(in, now)
	case in.prog.Idle():
		in.nextPass()
	}
	if r.filtering.enough() {
		in.env.life.Wake() // for the rest
	}
}

// full says whether the runner must settle something before it takes more of a class in. Each class has its share of memory, so that none is
// kept out by what is in of another.
func (r *Runner) full(in *intake) bool {
	return in.tasks >= r.maxTasks() || (in.bytes+in.records.bytes)*int64(len(r.intakes))+r.retries.parked.unsaved+r.retries.scheduled.beyond.bytes >= r.maxTaskBytes() || in.prog.Done >= MaxDone ||
		r.retries.parked.blocked.full() || len(r.retries.scheduled.beyond.tasks) >= MaxBeyond
}

// someFull says whether some class is.
func (r *Runner) someFull() bool { return slices.ContainsFunc(r.intakes, r.full) }

func (r *Runner) maxTasks() int {
	most := max(2*r.lanes.most*r.lanes.batchMax, 64)
	if r.breaker.wide || r.limits.turns { // one of a value with room may be far behind
		return max(most, widestLook)
	}
	return most
}

func (r *Runner) maxTaskBytes() int64 {
	return min(max(r.Env.Budget.Share(), minLaneBytes), laneBytes)
}

// watchQueue follows what the feed did to the queue.
func (in *intake) watchQueue() {
	if in.live.queue == nil {
		return
	}
	target, attached, refused := in.live.queue.State()
	if refused {
		in.endQueue()
		return
	}
	if attached && in.live.awaiting {
		in.live.awaiting = false
		snap := target.Snapshot
		in.startReader(&snap, nil)
	}
}

// awaitsRest says whether the next pass waits until the rest of what was taken in is settled.
func (in *intake) awaitsRest() bool {
	return in.live.queue == nil && in.pass.reader == nil && !in.prog.Idle()
}

// endQueue loses the queue's rest: a pass will read it again.
func (in *intake) endQueue() {
	if in.live.queue == nil {
		return
	}
	in.live.frozen.closed = in.env.Feed.Closed() // before drop tells what was not taken
	in.live.frozen.limit = in.live.queue.Drop()
	if in.live.awaiting || in.pass.reader != nil {
		in.live.frozen.closed = snapshot.Closed{} // nothing was taken from it
	}
	in.live.queue, in.live.awaiting = nil, false
}

// nextPass starts the next pass: from where the cursor was loaded, to the feed's next closed snapshot if the present is near,
// or to the present.
func (in *intake) nextPass() {
	in.advance()
	if in.pass.resume != nil && in.pass.resume.Target != nil {
		in.startReader(in.pass.resume.Target, in.pass.resume)
		return
	}
	in.pass.resume = nil
	if in.env.joins() {
		in.nextJoining()
		return
	}
	if in.pass.made && in.pass.rows > nearRows {
		in.startReader(nil, nil)
		return
	}
	in.live.queue = in.env.Feed.NewQueue(in.filter.current, in.env.Budget, in.env.life.Wake)
	in.live.queue.Class = in.part.Class
	in.live.awaiting = true
	in.env.Feed.Attach(in.live.queue)
}

// startReader begins a pass from the base to target, nil for the present.
func (in *intake) startReader(target *snapshot.Snapshot, resume *snapshot.Position) {
	p := &passReader{Passes: in.env.Passes, name: in.env.Sub.Name, filter: in.filter, base: in.prog.Base, target: target,
		exclude: in.pass.exclude, wake: in.env.life.Wake, owned: store.Owned{Part: in.part, Incarnation: in.env.Passes.DB.Incarnation, Epoch: in.env.Cursor.Epoch}}
	if resume != nil {
		p.resumed, p.afterID = true, resume.AfterID
	}
	in.pass.rows, in.pass.made = 0, true
	in.env.Metrics.Passes.Inc()
	in.pass.reader = p
	p.start(in.env.life.reading)
}

// intakePage admits rows of the pass under way.
func (r *Runner) intakePage(in *intake, now time.Time) {
	for in.pass.reader != nil && !r.full(in) && !r.filtering.enough() {
		if len(in.pass.page.Rows) == 0 && !in.nextPage() {
			return
		}
		n := min(len(in.pass.page.Rows), r.filtering.atOnce(r.maxTasks()-in.tasks))
		for n < len(in.pass.page.Rows) && in.pass.page.Rows[n].ID == in.pass.page.Rows[n-1].ID {
			n++ // an id that comes twice is passed at once
		}
		var tasks []*task
		for _, row := range in.pass.page.Rows[:n] {
			if in.filter.wants(row) {
				t := in.newTask(row)
				t.seq = in.prog.AdmitPass(row.Ident())
				tasks = append(tasks, t)
			}
		}
		for _, t := range tasks { // after all of them are known
			in.pass.rows++
			r.admit(t, now)
		}
		in.pass.page.Rows = in.pass.page.Rows[n:]
		in.endPage()
	}
}

// nextPage gets the page that was read ahead, if it is there.
func (in *intake) nextPage() bool {
	select {
	case p := <-in.pass.reader.pages:
		if in.prog.Pass == nil {
			in.advance()
			after := p.Start
			if !p.Fresh {
				after = in.pass.reader.afterID
			}
			in.prog.StartPass(p.Target, after, p.Fresh)
			if j := in.joining; in.env.joins() && j.target == nil && !in.pass.reader.resumed {
				j.target = &p.Target
				in.env.life.Wake() // the other classes have waited for it
			}
			in.live.frozen.closed, in.live.frozen.limit = snapshot.Closed{}, nil
			in.pass.resume = nil
		}
		in.pass.page = p
		in.endPage()
		return len(p.Rows) > 0
	default:
		return false
	}
}

// endPage ends the pass after its last row was admitted.
func (in *intake) endPage() {
	if len(in.pass.page.Rows) > 0 {
		return
	}
	if !in.pass.page.Last {
		if in.pass.page.End != 0 && in.prog.ReachPass(in.pass.page.End) {
			in.dirty = true
		}
		return
	}
	in.prog.ScanPass()
	if !in.pass.reader.resumed { // it ends past what any former runner knew
		in.pass.present = true
	}
	in.pass.reader.stop()
	in.pass.reader, in.pass.page, in.pass.exclude = nil, store.Page{}, false
	in.dirty = true
}

// intakeLive admits messages from the feed.
func (r *Runner) intakeLive(in *intake, now time.Time) {
	for !r.full(in) && !r.filtering.enough() { // what is parked or settled at once makes room for more
		rows := in.live.queue.Take(r.filtering.atOnce(r.maxTasks() - in.tasks))
		if len(rows) == 0 {
			return
		}
		for _, l := range rows {
			t := in.newTask(l.Row)
			t.win, t.seq = l.Win, in.prog.AdmitLive(l.Win, l.Row.Ident())
			r.admit(t, now)
		}
		clear(rows)
	}
}

// tasksAtOnce are allocated together, and live as long as the last of them.
const tasksAtOnce = 16

// newTask makes a task for a message from the log.
func (in *intake) newTask(row *message.Row) *task {
	if len(in.newTasks) == 0 {
		in.newTasks = make([]task, tasksAtOnce)
	}
	t := &in.newTasks[0]
	in.newTasks = in.newTasks[1:]
	t.row, t.key, t.in = row, in.env.order().key(row), in
	return t
}

// admit puts a message from the log into its lane, unless it is settled already or must wait.
func (r *Runner) admit(t *task, now time.Time) {
	t.in.dirty = true
	m := t.row.Ident()
	switch {
	case t.in.prog.Skip.Has(m), r.retries.parked.byID[m] != nil:
		t.in.settle(t)
	case r.filtered(t):
	case t.row.DeliverAt.After(now):
		r.schedule(t)
	default:
		t.since = now
		r.enqueue(t)
	}
}

// settle counts a message from the log off.
func (in *intake) settle(t *task) {
	in.dirty = true
	if t.win != nil {
		in.prog.SettleLive(t.win, t.seq)
		return
	}
	in.prog.SettlePass(t.seq)
}

// advance moves the base as far as the feed's closed snapshots allow.
func (in *intake) advance() {
	if in.live.queue == nil {
		in.prog.Advance(in.live.frozen.closed, in.live.frozen.limit)
		return
	}
	if in.live.awaiting || in.pass.reader != nil {
		return
	}
	closed := in.env.Feed.Closed() // before the queue is looked at: its messages are in the queue by then
	in.prog.Advance(closed, in.live.queue.First())
}

package relay

import (
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/progress"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// takeIn takes messages in from where the runner stands: from the pass under way, from the feed, or it starts the next pass.
func (r *runner) takeIn(now time.Time) {
	r.intake.watchQueue()
	if r.intake.prog.Done >= maxDone/2 {
		r.intake.advance() // not only when progress is saved
	}
	if r.full() {
		return
	}
	r.intakePage(now)
	if r.intake.pass.present {
		r.retries.endPostponing()
	}
	switch {
	case r.intake.pass.reader != nil || r.intake.live.awaiting:
	case r.intake.live.queue != nil:
		r.intakeLive(now)
	case r.intake.prog.Idle():
		r.intake.nextPass()
	}
}

// full says whether the runner must settle something before it takes more in.
func (r *runner) full() bool {
	return r.lanes.tasks >= r.maxTasks() || r.lanes.bytes+r.retries.parked.unsaved+r.retries.scheduled.beyond.bytes >= r.maxTaskBytes() || r.intake.prog.Done >= maxDone ||
		r.retries.parked.blocked >= r.env.sub.Settings.MaxParked || len(r.retries.scheduled.beyond.tasks) >= maxBeyond
}

func (r *runner) maxTasks() int {
	most := max(2*len(r.lanes.all)*r.lanes.all[0].batchMax, 64)
	if r.breaker.wide {
		return max(most, widestLook)
	}
	return most
}

func (r *runner) maxTaskBytes() int64 {
	return min(max(r.env.budget.Share(), minLaneBytes), laneBytes)
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

// endQueue loses the queue's rest: a pass will read it again.
func (in *intake) endQueue() {
	if in.live.queue == nil {
		return
	}
	in.live.frozen.closed = in.env.feed.Closed() // before drop tells what was not taken
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
	if in.pass.made && in.pass.rows > nearRows {
		in.startReader(nil, nil)
		return
	}
	in.live.queue = in.env.feed.NewQueue(in.filter.current, in.env.budget, in.env.life.wake)
	in.live.awaiting = true
	in.env.feed.Attach(in.live.queue)
}

// startReader begins a pass from the base to target, nil for the present.
func (in *intake) startReader(target *snapshot.Snapshot, resume *snapshot.Position) {
	p := &passReader{passes: in.env.passes, name: in.env.sub.Name, filter: in.filter, base: in.prog.Base, target: target,
		exclude: in.pass.exclude, wake: in.env.life.wake, mine: []store.Call{store.MineCall(in.env.passes.db.Incarnation, in.env.sub.Name, in.env.cursor.epoch)}}
	if resume != nil {
		p.resumed, p.afterID = true, resume.AfterID
	}
	in.pass.rows, in.pass.made = 0, true
	in.env.metrics.Passes.Inc()
	in.pass.reader = p
	p.start(in.env.life.reading)
}

// intakePage admits rows of the pass under way.
func (r *runner) intakePage(now time.Time) {
	for r.intake.pass.reader != nil && !r.full() {
		if len(r.intake.pass.page.Rows) == 0 && !r.intake.nextPage() {
			return
		}
		n := min(len(r.intake.pass.page.Rows), r.maxTasks()-r.lanes.tasks)
		for n < len(r.intake.pass.page.Rows) && r.intake.pass.page.Rows[n].ID == r.intake.pass.page.Rows[n-1].ID {
			n++ // an id that comes twice is passed at once
		}
		var tasks []*task
		for _, row := range r.intake.pass.page.Rows[:n] {
			if r.intake.filter.wants(row) {
				t := r.intake.newTask(row)
				t.seq = r.intake.prog.AdmitPass(row.Ident())
				tasks = append(tasks, t)
			}
		}
		for _, t := range tasks { // after all of them are known
			r.intake.pass.rows++
			r.admit(t, now)
		}
		r.intake.pass.page.Rows = r.intake.pass.page.Rows[n:]
		r.intake.endPage()
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
func (r *runner) intakeLive(now time.Time) {
	for !r.full() { // what is parked or settled at once makes room for more
		rows := r.intake.live.queue.Take(r.maxTasks() - r.lanes.tasks)
		if len(rows) == 0 {
			return
		}
		for _, l := range rows {
			t := r.intake.newTask(l.Row)
			t.win, t.seq = l.Win, r.intake.prog.AdmitLive(l.Win, l.Row.Ident())
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
	t.row, t.key = row, in.env.order().key(row)
	return t
}

// admit puts a message from the log into its lane, unless it is settled already or must wait.
func (r *runner) admit(t *task, now time.Time) {
	r.intake.dirty = true
	m := t.row.Ident()
	switch {
	case r.intake.prog.Skip.Has(m), r.retries.parked.byID[m] != nil:
		r.intake.settle(t)
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
	closed := in.env.feed.Closed() // before the queue is looked at: its messages are in the queue by then
	in.prog.Advance(closed, in.live.queue.First())
}

// intake takes messages in for one cursor, from the table or from the feed, and counts off what is settled.
type intake struct {
	env      *environment
	filter   *filter
	prog     *progress.Progress
	live     live
	dirty    bool // there is progress to save
	pass     passing
	newTasks []task // allocated, not used yet
}

type passing struct {
	reader  *passReader
	page    store.Page // rows not admitted yet
	resume  *snapshot.Position
	rows    int
	made    bool // a pass has been made since the start
	present bool // and one that began after the start has been admitted whole
	exclude bool
}

type live struct {
	queue    *queue.Queue
	awaiting bool // the queue's target
	frozen   struct {
		closed snapshot.Closed
		limit  *snapshot.Window
	}
}

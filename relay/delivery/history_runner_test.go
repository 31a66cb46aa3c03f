package delivery

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// simRunner is a subscription with its rows in the database, and the runner that has it at the moment, if any. The runner is the
// engine's; what it would ask of the database and of the sink is answered by the model, some time later.
type simRunner struct {
	sim    *simulation
	sub    subscription.Subscription
	filter *Filter
	choice simChoice         // what the filter says besides topics
	begun  snapshot.Snapshot // the base at the beginning

	stored simCursors          // the cursors' rows
	parked map[int64]*simEntry // the parked rows
	ever   map[int64]bool      // accepted by the destination at some time
	died   map[int64]bool
	tries  map[int64]int
	again  map[int64]bool                        // parked at a replay: to be delivered from there, and from the log
	down   bool                                  // the destination answers nothing
	says   func(batch []*task, outcomes []error) // instead of the draw, what the destination answers

	r        *Runner
	feed     *simFeed
	loaded   simCursors // as r found the cursors
	accepted map[int64]bool
	counted  []int64        // accepted, as far as the runner knows
	touched  map[int64]bool // by a command since then
	stale    bool           // a command has taken the cursor from r, which does not know it yet
	reload   bool           // a command wants r to load anew
	paused   bool
	sends    bool                  // its destination is a sender
	sent     []bool                // per lane: its batch has been looked at
	out      map[int64]func(error) // of a sender: what ends the deliveries that are out, by message
	leases   map[int64]int64       // that the destination has granted, by token: the messages
	settle   func(token int64, outcome error)
	tokens   int64 // given so far
	cancels  simCancels
	passes   map[*intake]*simPass
	saves    int // begun so far
	loading  []*entry
	lookAt   time.Time
	save     *simSave
}

// simEntry is a row of postrider.parked.
type simEntry struct {
	state    string
	attempts int
	due      time.Time
	reason   string
	row      *message.Row
	lease    time.Duration
	token    int64
	worker   string // of the sink's own leases
}

// simPass stands for the goroutine of a passReader.
type simPass struct {
	reader *passReader
	target *snapshot.Snapshot
	next   store.Page
}

var (
	simMetrics       = metrics.New(nil, nil)
	simRunnerMetrics = simMetrics.Runner("sim")
	simNever, simEnd = context.WithCancel(context.Background())
	simPasses        = closedPasses()
)

// closedPasses read nothing: the pool is closed, and so is every context that readers get here.
func closedPasses() *Passes {
	simEnd()
	config, err := dbconn.ParseConfig("postgres://127.0.0.1:1/none")
	if err != nil {
		panic(err)
	}
	pool, err := dbconn.NewPool(context.Background(), config)
	if err != nil {
		panic(err)
	}
	pool.Close()
	return &Passes{DB: store.Database{Pool: pool, Source: simSource}, Reading: semaphore.NewWeighted(4), Limit: 1 << 20}
}

// takeOver is generation.newRunner.
func (x *simRunner) takeOver(f *simFeed) {
	x.arrange()
	cursors := x.cursors()
	x.sim.classes += len(cursors) / 4
	x.feed, x.loaded, x.accepted, x.touched = f, maps.Clone(x.stored), make(map[int64]bool), make(map[int64]bool)
	x.stale, x.reload, x.paused, x.passes, x.loading, x.save, x.counted, x.lookAt = false, false, false, nil, nil, nil, nil, time.Time{}
	var sink sinks.Sink
	if x.out = nil; x.sends {
		x.out = make(map[int64]func(error))
		sink = sinks.Wrap(lessorOf{sinks.AsSink(x), x}, sinks.Stage{}) // behind which it can do all that it could
	}
	r := New(Environment{
		Sink: sink, Sub: x.sub, Cursor: cursors[0], Classes: cursors, Feed: f.Feed, Passes: simPasses, Budget: f.budget,
		Log: slog.New(slog.DiscardHandler), Metrics: simRunnerMetrics,
		Save: func() {}, Pause: func(string) { x.paused = true }, Ownership: Ownership{Joined: func() {}},
	}, x.filter, x.Limits())
	r.Life.giveUp, r.Life.unread, r.Life.deliver, r.Life.reading = func() {}, func() {}, context.Background(), simNever
	r.breaker.rounds.waits = backoff.NewExponentialBackOff(backoff.WithInitialInterval(probeFirst), backoff.WithMaxInterval(probeMost),
		backoff.WithMaxElapsedTime(0), backoff.WithRandomizationFactor(0))
	for _, l := range r.lanes.all {
		l.begin = make(chan struct{}, 1) // instead of its goroutine
	}
	x.r, x.sent = r, make([]bool, len(r.lanes.all))
	x.leases = nil
	x.loadCancels()
	x.loadParked()
	r.serve()
	r.cancelLoaded()
	r.Life.Wake()
	x.sim.notef("%s taken over with %s", x.sub.Name, x.stored)
}

// roundTrip passes a cursor through its text form.
func roundTrip(s snapshot.Position) (back snapshot.Position, err error) {
	back.AfterID = s.AfterID
	if back.Base, err = snapshot.Parse(s.Base.String()); err != nil {
		return back, err
	}
	if s.Target != nil {
		target, err := snapshot.Parse(s.Target.String())
		if err != nil {
			return back, err
		}
		back.Target = &target
	}
	back.Done, err = snapshot.ParseDoneSet(s.Done.String())
	return back, err
}

// loadParked is runner.loadParked.
func (x *simRunner) loadParked() {
	r := x.r
	if len(x.parked) == 0 {
		return
	}
	for _, in := range r.intakes {
		in.pass.exclude = true
	}
	var waiting, later []*entry
	for id, p := range x.parked {
		e := &entry{id: id, born: p.row.Born, xid: p.row.XID, keyClass: keyClass{r.Env.order().parkedKey(p.row.Key), r.Env.classOf(p.row.Priority)}, state: p.state, attempts: p.attempts, due: p.due, heapIndex: -1}
		switch {
		case p.state == states.Scheduled:
			later = append(later, e)
		case p.state == states.Leased, p.state == states.Completed, p.state == states.Failed:
			if e.state = states.Leased; p.state == states.Leased {
				e.token, e.worker = p.token, p.worker
			}
			if e.worker != "" {
				r.lanes.leasing.found = append(r.lanes.leasing.found, sinks.Lease{ID: id, Token: p.token, Worker: p.worker})
			}
			waiting = append(waiting, e)
		case p.state == states.Retrying, p.state == states.Held, p.state == states.Dead && x.sub.Settings.OnDead == subscription.DeadHolds:
			waiting = append(waiting, e)
		}
	}
	for _, e := range append(waiting, later...) {
		e.stored = e.state
	}
	byID := func(a, b *entry) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(waiting, byID)
	slices.SortFunc(later, func(a, b *entry) int { return cmp.Or(a.due.Compare(b.due), byID(a, b)) })
	r.retries.takeInParked(waiting, later)
}

// step is a round of runner.loop, if anything has woken it.
func (x *simRunner) step() (acted bool) {
	if x.r == nil {
		return false
	}
	select {
	case <-x.r.Life.wakeup:
	default:
		if x.sim.server.now.Before(x.lookAt) {
			return false
		}
	}
	x.lookAt = x.sim.server.now.Add(x.r.step(x.sim.server.now))
	x.count()
	x.sent = append(x.sent, make([]bool, len(x.r.lanes.all)-len(x.sent))...)
	for i, l := range x.r.lanes.all {
		if l.busy && !x.sent[i] {
			x.sent[i] = true
			for j, t := range l.batch {
				x.checkDelivery(t, &l.deliveries[j])
			}
		}
	}
	x.checkOut()
	if x.r.retries.loading && x.loading == nil {
		x.loading = x.beingLoaded()
	}
	return true
}

// count takes note of what the runner has heard of.
func (x *simRunner) count() {
	if len(x.accepted) > len(x.counted) {
		x.counted = slices.Collect(maps.Keys(x.accepted))
	}
}

// beingLoaded finds the entries that startLoad has taken, and that the runner has not forgotten since.
func (x *simRunner) beingLoaded() []*entry {
	found := []*entry{}
	elsewhere := make(map[*entry]bool)
	for _, e := range slices.Concat(x.r.retries.toLoad, x.r.retries.postponed) {
		elsewhere[e] = true
	}
	tasks := slices.Collect(x.r.lanes.free.all)
	for _, l := range x.r.lanes.all {
		tasks = slices.AppendSeq(tasks, l.queue.all)
		if l.busy {
			tasks = append(tasks, l.batch...)
		}
	}
	for _, t := range tasks {
		elsewhere[t.entry] = true
	}
	for _, e := range x.r.retries.parked.byID {
		if e.busy && !elsewhere[e] {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return found
}

// drop forgets the runner, as when its relay is gone, or its cursor.
func (x *simRunner) drop() {
	if x.r == nil {
		return
	}
	for _, in := range x.r.intakes {
		if in.pass.reader != nil {
			in.pass.reader.stop()
		}
		in.endQueue()
	}
	x.r = nil
}

package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/progress"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

const (
	closeEvery   = 100 * time.Millisecond // about how often the feed closes a snapshot
	maxDone      = 10_000                 // ids settled beyond the rest before intake stops
	laneBytes    = 8 << 20
	minLaneBytes = 64 << 10
	idleSave     = time.Minute // between saves of a cursor without deliveries
)

// runner delivers one subscription. All its state belongs to step, which never waits: deliveries happen in lanes, reading in
// goroutines of their own, and everything that happens wakes the runner's goroutine for another step.
type runner struct {
	env  environment
	life lifecycle

	mu       sync.Mutex // guards everything below
	intake   intake
	lanes    lanes
	retries  retries
	breaker  breaker
	report   report
	stopping bool // nothing more is taken in, and no delivery starts
	gone     bool // the cursor was lost: nothing may be delivered or saved any more
}

// newRunner makes a runner that stands where its cursor does. The limits are the sink's.
func newRunner(env environment, f *filter, limits sinks.Limits) *runner {
	at, s := env.cursor.saved, env.sub.Settings
	n, batch := env.order().lanes(orDefault(s.Lanes, limits.Lanes), orDefault(s.Batch, limits.Batch))
	r := &runner{env: env, life: lifecycle{wakeup: make(chan struct{}, 1), quit: make(chan struct{})}}
	r.env.life = &r.life
	r.intake = intake{env: &r.env, filter: f, prog: progress.New(at), pass: passing{resume: &at}, dirty: env.cursor.trouble != ""} // whoever had it before may have had another
	r.lanes.all = newLanes(n, batch)
	r.retries = retries{env: &r.env, parked: newParkedSet()}
	r.report = report{saved: at.String(), described: env.cursor.trouble}
	return r
}

// task is a message on its way through a lane.
type task struct {
	row      *message.Row
	key      string
	win      *snapshot.Window // from the feed
	seq      int              // its number in the window or, if win and entry are nil, in the pass
	entry    *entry           // from the parked table
	since    time.Time        // when it was taken in; zero if it comes from the parked table
	attempts int
	fault    *fault // of a suspect
	alone    bool   // it goes in a batch of its own: it may be the one that fails others
	bare     bool   // nothing of it can be read
}

// start begins to deliver.
func (r *runner) start(ctx context.Context) {
	r.life.reading, r.life.unread = context.WithCancel(ctx)
	r.life.deliver, r.life.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	r.life.done.Go(r.loop)
	r.life.wake()
}

func (l *lifecycle) wake() { async.Signal(l.wakeup) }

func (r *runner) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-r.life.quit:
			return
		case <-r.life.wakeup:
		case <-timer.C:
		}
		timer.Reset(r.step(time.Now()))
	}
}

// step does everything that can be done now and returns when to look again at the latest.
func (r *runner) step(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectResults(now)
	if r.gone {
		return time.Hour
	}
	r.collectLoaded()
	r.lanes.lingers = time.Time{}
	if !r.stopping {
		r.takeDue(now)
		r.takeBeyond(now)
		r.takeIn(now)
		r.dispatch(now)
	}
	r.describeTrouble(now)
	if due, _ := r.report.deaths.due(now); due {
		r.report.deaths.tell(r.env.log, r.env.sub.Name, now)
	}
	return r.nextLook(now)
}

func (r *runner) nextLook(now time.Time) time.Duration {
	look := time.Hour // or until something happens
	if r.takesDue() && len(r.retries.parked.due) > 0 && r.retries.parked.due[0].durable() {
		look = min(look, r.retries.parked.due[0].due.Sub(now))
	}
	if r.breaker.open && !r.breaker.rounds.underWay && now.Before(r.breaker.rounds.next) {
		look = min(look, r.breaker.rounds.next.Sub(now))
	}
	if !r.lanes.lingers.IsZero() {
		look = min(look, r.lanes.lingers.Sub(now))
	}
	if b := &r.retries.scheduled.beyond; len(b.tasks) > 0 {
		look = min(look, b.next.Sub(now))
	}
	if _, wait := r.report.deaths.due(now); wait > 0 {
		look = min(look, wait)
	}
	if r.intake.prog.Done >= maxDone {
		look = min(look, closeEvery) // a window may have closed
	}
	return max(look, time.Millisecond)
}

// stop takes nothing more in and starts no more deliveries. What is under way goes on.
func (r *runner) stop() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.life.wake()
}

// noticing is how long a sink may take to return from deliveries that are given up: what it has confirmed is still counted.
const noticing = time.Second

// drain waits until no delivery is under way; when ctx ends it gives them up and waits for the sink to notice.
func (r *runner) drain(ctx context.Context) {
	for !r.drained() && async.Sleep(ctx, time.Millisecond) {
	}
	r.life.giveUp()
	for until := time.Now().Add(noticing); !r.drained() && time.Now().Before(until); {
		async.Sleep(context.Background(), time.Millisecond)
	}
}

func (r *runner) drained() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes.inFlight == 0
}

// abandon makes sure that nothing more is saved: the cursor belongs to somebody else, or its history has changed.
func (r *runner) abandon() {
	r.mu.Lock()
	r.gone, r.stopping = true, true
	r.mu.Unlock()
	r.life.giveUp()
}

func (r *runner) isGone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}

// close ends all goroutines and closes the sink.
func (r *runner) close() {
	r.stop()
	r.life.giveUp()
	r.mu.Lock()
	reader := r.intake.pass.reader
	r.intake.endQueue()
	for _, l := range r.lanes.all {
		l.close()
	}
	r.mu.Unlock()
	r.life.unread()
	if reader != nil {
		reader.stop()
	}
	for _, l := range r.lanes.all {
		l.done.Wait()
	}
	close(r.life.quit)
	r.life.done.Wait()
	r.mu.Lock()
	r.report.deaths.tell(r.env.log, r.env.sub.Name, time.Now())
	r.mu.Unlock()
	if err := r.env.sink.Close(); err != nil {
		r.env.log.Warn("sink not closed", "error", err)
	}
}

// describeTrouble keeps the reason why deliveries stand still, for the cursor's row.
func (r *runner) describeTrouble(now time.Time) {
	trouble := ""
	switch {
	case r.breaker.open:
		trouble = "destination is down: " + r.breaker.reason
	case r.retries.parked.blocked >= r.env.sub.Settings.MaxParked:
		trouble = "intake stopped: max_parked messages wait for a retry or a callback"
	case r.scheduledStop():
		trouble = "intake stopped: max_scheduled messages wait for their time, and the next one is another"
	}
	described := trouble
	if ours := r.env.health.Trouble(r.env.sub.Name); ours != "" {
		described = ours // which is in the log already
	}
	if described != r.report.describing {
		r.report.describing, r.intake.dirty = described, true
	}
	if trouble == r.report.trouble {
		return
	}
	r.report.trouble = trouble
	r.report.troubles.tell(r.env.log, r.env.sub.Name, trouble, now)
	down, stopped := 0.0, 0.0
	switch {
	case r.breaker.open:
		down = 1
	case trouble != "":
		stopped = 1
	}
	r.env.metrics.Down.Set(down)
	r.env.metrics.Stopped.Set(stopped)
}

// source is where a live runner gets its messages from.
type source interface {
	// NewQueue makes a queue for what matches.
	NewQueue(match *topic.Matcher, b *queue.Budget, wake func()) *queue.Queue
	// Attach has the queue filled from the next closed snapshot on.
	Attach(q *queue.Queue)
	// Closed is the newest snapshot that is complete.
	Closed() snapshot.Closed
}

// environment is what a runner is given, and what does not change while it runs.
type environment struct {
	sub    subscription.Subscription
	cursor cursor // as it was taken over
	sink   sinks.Sink
	feed   source
	passes *passes
	budget *queue.Budget // of the queues and of what is in the lanes
	life   *lifecycle

	log     *slog.Logger
	health  *health.Health
	metrics metrics.Subscription
	save    func()              // asks for a save soon
	pause   func(reason string) // asks for a pause of the subscription
	parked  func(state string)  // counts an exception
}

func (e *environment) order() order { return order(e.sub.Settings.Ordering) }

// lifecycle is how a runner and its goroutines are woken and ended.
type lifecycle struct {
	wakeup  chan struct{}
	deliver context.Context // cancelled to give up deliveries under way
	giveUp  context.CancelFunc
	reading context.Context // cancelled to end reading from the database
	unread  context.CancelFunc
	quit    chan struct{} // closed to end the goroutine
	done    sync.WaitGroup
}

// report is what others are told of a runner: its cursor's row, the log, metrics.
type report struct {
	trouble    string
	describing string // what the cursor's row shall say of it
	troubles   troubleNotices
	deaths     deathNotices
	saved      string // the cursor as it was last saved
	savedAt    time.Time
	described  string // the trouble as it was last saved
}

package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/relay/watch"
	"github.com/postrider/postrider/sinks"
)

const (
	closeEvery   = 100 * time.Millisecond // about how often the feed closes a snapshot
	MaxDone      = 10_000                 // ids settled beyond the rest before intake stops
	laneBytes    = 8 << 20
	minLaneBytes = 64 << 10
	idleSave     = time.Minute // between saves of a cursor without deliveries
)

// Runner delivers one subscription. All its state belongs to step, which never waits: deliveries happen in lanes, reading in
// goroutines of their own, and everything that happens wakes the runner's goroutine for another step.
type Runner struct {
	Env  Environment
	Life lifecycle

	mu        sync.Mutex // guards everything below
	intakes   []*intake  // one of class 0 for all messages, or one for each class in order
	lanes     lanes
	retries   retries
	limits    limiting
	breaker   breaker
	filtering filtering
	transform *expression.Transform // what is delivered instead of messages; nil: they are
	report    report
	joining   joining
	cancels   cancels
	stopping  bool // nothing more is taken in, and no delivery starts
	gone      bool // the cursor was lost: nothing may be delivered or saved any more
}

// New makes a runner that stands where its cursor does. The limits are the sink's.
func New(env Environment, f *Filter, limits sinks.Limits) *Runner {
	s := env.Sub.Settings
	parked := newParkedSet(s.MaxParked, env.order().strict())
	r := &Runner{Env: env, Life: lifecycle{wakeup: make(chan struct{}, 1), quit: make(chan struct{})}}
	r.Env.life = &r.Life
	r.filtering.wanted, r.filtering.evaluates, r.transform = f.wanted, f.wanted != nil || f.per != nil, f.transform
	for _, c := range r.Env.classes() {
		r.intakes = append(r.intakes, newIntake(r, f, c))
	}
	n, batch := env.order().lanes(orDefault(s.Lanes, limits.Lanes), orDefault(s.Batch, limits.Batch))
	r.lanes.make(env.senderOf(), n, batch)
	r.lanes.leasing.to, _ = sinks.As[sinks.Lessor](env.Sink)
	if r.limits = newLimiting(s.Limits, f.per, env.order().strict()); r.limits.Limiter != nil {
		parked.onLease = r.limits.leased
	}
	r.retries = retries{env: &r.Env, parked: parked, intakes: r.intakes}
	return r
}

// Start begins to deliver.
func (r *Runner) Start(ctx context.Context) {
	r.Life.reading, r.Life.unread = context.WithCancel(ctx)
	r.Life.deliver, r.Life.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	r.serve()
	r.cancelLoaded()
	r.Life.done.Go(r.loop)
	r.Life.Wake()
}

func (l *lifecycle) Wake() { async.Signal(l.wakeup) }

func (r *Runner) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-r.Life.quit:
			return
		case <-r.Life.wakeup:
		case <-timer.C:
		}
		timer.Reset(r.step(time.Now()))
	}
}

// step does everything that can be done now and returns when it is to be called again at the latest.
func (r *Runner) step(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits.round(now)
	r.filtering.work = 0
	r.collectResults(now)
	if r.gone {
		return time.Hour
	}
	r.collectLoaded()
	r.lanes.lingers = time.Time{}
	if !r.stopping {
		r.takeDue(now)
		r.takeBeyond(now)
		for _, in := range r.intakes {
			r.takeIn(in, now)
		}
		if r.Env.sure() {
			r.dispatch(now)
		}
		r.join()
	}
	r.describeTrouble(now)
	if due, _ := r.report.deaths.due(now); due {
		r.report.deaths.tell(r.Env.Log, r.Env.Sub.Name, now)
	}
	return r.nextLook(now)
}

func (r *Runner) nextLook(now time.Time) time.Duration {
	next := r.nextRoom(now)
	if r.takesDue() && len(r.retries.parked.due) > 0 && r.retries.parked.due[0].durable() {
		next = min(next, r.retries.parked.due[0].due.Sub(now))
	}
	if r.breaker.open && !r.breaker.rounds.underWay && now.Before(r.breaker.rounds.next) {
		next = min(next, r.breaker.rounds.next.Sub(now))
	}
	if !r.lanes.lingers.IsZero() {
		next = min(next, r.lanes.lingers.Sub(now))
	}
	if b := &r.retries.scheduled.beyond; len(b.tasks) > 0 {
		next = min(next, b.next.Sub(now))
	}
	next = r.report.next(next, now, r.lanes.inFlight > 0)
	for _, in := range r.intakes {
		if in.prog.Done >= MaxDone {
			next = min(next, closeEvery) // a window may have closed
		}
	}
	return max(next, time.Millisecond)
}

// Stop takes nothing more in and starts no more deliveries. What is under way goes on.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.relinquish()
	r.Life.Wake()
}

// returnTime is how long a sink may take to return from deliveries that are given up: what it has confirmed is still counted.
const returnTime = time.Second

// Drain waits until no delivery is under way; when ctx ends it gives them up and waits for the sink to notice.
func (r *Runner) Drain(ctx context.Context) {
	for !r.drained() && async.Sleep(ctx, time.Millisecond) {
	}
	r.Life.giveUp()
	for until := time.Now().Add(returnTime); !r.drained() && time.Now().Before(until); {
		async.Sleep(context.Background(), time.Millisecond)
	}
}

// drained says whether nothing is under way, and what has come of it is concluded: leases that have ended are no deliveries under way any more,
// and whoever ended one was told that it counts.
func (r *Runner) drained() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes.inFlight == 0 && !r.lanes.leaseEnded()
}

// Abandon makes sure that nothing more is saved: the cursor belongs to somebody else, or its history has changed.
func (r *Runner) Abandon() {
	r.mu.Lock()
	r.gone, r.stopping = true, true
	r.mu.Unlock()
	r.Life.giveUp()
}

func (r *Runner) IsGone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}

// Close ends all goroutines and closes the sink.
func (r *Runner) Close() {
	r.Stop()
	r.Life.giveUp()
	r.mu.Lock()
	var readers []*passReader
	for _, in := range r.intakes {
		if in.pass.reader != nil {
			readers = append(readers, in.pass.reader)
		}
		in.endQueue()
	}
	for _, l := range r.lanes.all {
		l.close()
	}
	r.mu.Unlock()
	r.Life.unread()
	for _, reader := range readers {
		reader.stop()
	}
	for _, l := range r.lanes.all {
		l.done.Wait()
	}
	close(r.Life.quit)
	r.Life.done.Wait()
	r.mu.Lock()
	r.report.deaths.tell(r.Env.Log, r.Env.Sub.Name, time.Now())
	r.mu.Unlock()
	if err := r.Env.Sink.Close(); err != nil {
		r.Env.Log.Warn("sink not closed", "error", err)
	}
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

// Environment is what a runner is given, and what does not change while it runs.
type Environment struct {
	Sub    subscription.Subscription
	Cursor store.Cursor // as it was taken over: that of all messages, or of the first class
	// Classes are the cursors of all classes in order, if there are several.
	Classes []store.Cursor
	Sink    sinks.Sink
	Feed    source
	Passes  *Passes
	Budget  *queue.Budget // of the queues and of what is in the lanes
	life    *lifecycle

	Log     *slog.Logger
	Health  *health.Health
	Metrics metrics.Counters
	Save    func()              // asks for a save soon
	Pause   func(reason string) // asks for a pause of the subscription
	Watch   *watch.Feed         // who listens to what becomes of messages; nil: nobody can
	Ownership
}

// Ownership is what a runner and whoever owns its cursor have to say to each other.
type Ownership struct {
	Joined func()      // says that all classes have come to one snapshot, which they are to become one again at
	Sure   func() bool // whether nobody else can have taken the cursor over; who says no wakes the runner once it is so again. Nil: always
}

// sure says whether deliveries may begin. What is out when that ends is out: a relay that stood still for longer than its lease begins nothing more,
// for another may have cancelled or settled it.
func (e *Environment) sure() bool { return e.Sure == nil || e.Sure() }

func (e *Environment) order() order { return order(e.Sub.Settings.Ordering) }

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

package relay

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

const (
	maxDone      = 10_000 // ids settled beyond the rest before intake stops
	laneBytes    = 8 << 20
	minLaneBytes = 64 << 10
	idleSave     = time.Minute // between saves of a cursor without deliveries
)

// runner delivers one subscription. All its state belongs to step, which never waits: deliveries happen in lanes, reading in
// goroutines of their own, and everything that happens wakes the runner's goroutine for another step.
type runner struct {
	sub     subscription.Subscription
	cursor  cursor
	sink    sinks.Sink
	filter  *filter
	feed    *feed
	passes  *passes
	budget  *budget
	log     *slog.Logger
	health  *health
	metrics runnerMetrics
	save    func() // asks for a save soon
	pause   func(reason string)
	parkedC func(state string)

	wakeup   chan struct{}
	deliver  context.Context // cancelled to give up deliveries under way
	giveUp   context.CancelFunc
	reading  context.Context // cancelled to end reading from the database
	unread   context.CancelFunc
	quit     chan struct{} // closed to end the goroutine
	done     sync.WaitGroup
	finished struct {
		sync.Mutex
		lanes     []*lane
		collected []*lane // the other of two arrays that take turns
	}
	loaded atomic.Pointer[loadedRows]

	mu       sync.Mutex // guards everything below
	prog     *progress
	stopping bool
	gone     bool // the cursor was lost: nothing may be delivered or saved any more
	frozen   struct {
		closed snapshot.Closed
		limit  *snapshot.Window
	}

	queue     *queue
	awaiting  bool // the queue's target
	reader    *passReader
	pageAt    page // rows not admitted yet
	resume    *snapshot.Position
	passRows  int
	passed    bool     // a pass has been made since the start
	present   bool     // and one that began after the start has been admitted whole
	postponed []*entry // scheduled, due, and waiting for that
	exclude   bool
	scheduled scheduledAhead

	tenant    tenant // of the room for messages that are read by themselves
	lanes     []*lane
	free      []*task // without a key: for any lane
	newTasks  []task  // allocated, not used yet
	tasks     int     // in lanes and free, delivering included
	taskBytes int64
	inFlight  int
	alone     int       // of these, messages that are read by themselves
	lingers   time.Time // when the first lane stops to wait for a full batch; zero: none waits
	parked    *parkedSet
	loading   bool
	toLoad    []*entry
	breaker   breaker
	started   int // deliveries, which are numbered by it
	throughAt int // number of the latest delivery in which something got through
	failures  int // deliveries in a row in which nothing did
	suspects  int // tasks with a fault

	heldUnproven int // held since something got through the last time, behind messages that had failed by then

	dirty      bool
	trouble    string
	describing string // what the cursor's row shall say of it
	troubles   troubleNotices
	deaths     deathNotices
	saved      string // the cursor as it was last saved
	savedAt    time.Time
	described  string // the trouble as it was last saved
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

// filter decides which messages a subscription gets: topics before a change apply to what their snapshot sees.
type filter struct {
	regex   string // matches whatever any of the topic lists matches
	current *topic.Matcher
	earlier []earlierTopics
}

type earlierTopics struct {
	match *topic.Matcher
	until snapshot.Snapshot
}

func (f *filter) wants(r *message.Row) bool {
	for _, e := range f.earlier {
		if e.until.Sees(r.XID) {
			return e.match.Match(r.Topic)
		}
	}
	return f.current.Match(r.Topic)
}

// start begins to deliver.
func (r *runner) start(ctx context.Context) {
	r.reading, r.unread = context.WithCancel(ctx)
	r.deliver, r.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	r.done.Go(r.loop)
	r.wake()
}

func (r *runner) wake() { async.Signal(r.wakeup) }

func (r *runner) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-r.wakeup:
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
	r.lingers = time.Time{}
	if !r.stopping {
		r.takeDue(now)
		r.takeBeyond(now)
		r.intake(now)
		r.dispatch(now)
	}
	r.describeTrouble(now)
	if due, _ := r.deaths.due(now); due {
		r.deaths.tell(r.log, r.sub.Name, now)
	}
	return r.nextLook(now)
}

func (r *runner) nextLook(now time.Time) time.Duration {
	look := time.Hour // or until something happens
	if r.takesDue() && len(r.parked.due) > 0 && r.parked.due[0].durable() {
		look = min(look, r.parked.due[0].due.Sub(now))
	}
	if r.breaker.open && !r.breaker.round && now.Before(r.breaker.next) {
		look = min(look, r.breaker.next.Sub(now))
	}
	if !r.lingers.IsZero() {
		look = min(look, r.lingers.Sub(now))
	}
	if b := &r.scheduled.beyond; len(b.tasks) > 0 {
		look = min(look, b.next.Sub(now))
	}
	if _, wait := r.deaths.due(now); wait > 0 {
		look = min(look, wait)
	}
	if r.prog.done >= maxDone {
		look = min(look, closeEvery) // a window may have closed
	}
	return max(look, time.Millisecond)
}

// stop takes nothing more in and starts no more deliveries. What is under way goes on.
func (r *runner) stop() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.wake()
}

// noticing is how long a sink may take to return from deliveries that are given up: what it has confirmed is still counted.
const noticing = time.Second

// drain waits until no delivery is under way; when ctx ends it gives them up and waits for the sink to notice.
func (r *runner) drain(ctx context.Context) {
	for !r.drained() && async.Sleep(ctx, time.Millisecond) {
	}
	r.giveUp()
	for until := time.Now().Add(noticing); !r.drained() && time.Now().Before(until); {
		async.Sleep(context.Background(), time.Millisecond)
	}
}

func (r *runner) drained() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight == 0
}

// abandon makes sure that nothing more is saved: the cursor belongs to somebody else, or its history has changed.
func (r *runner) abandon() {
	r.mu.Lock()
	r.gone, r.stopping = true, true
	r.mu.Unlock()
	r.giveUp()
}

func (r *runner) isGone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}

// close ends all goroutines and closes the sink.
func (r *runner) close() {
	r.stop()
	r.giveUp()
	r.mu.Lock()
	reader := r.reader
	r.endQueue()
	for _, l := range r.lanes {
		l.close()
	}
	r.mu.Unlock()
	r.unread()
	if reader != nil {
		reader.stop()
	}
	for _, l := range r.lanes {
		l.done.Wait()
	}
	close(r.quit)
	r.done.Wait()
	r.mu.Lock()
	r.deaths.tell(r.log, r.sub.Name, time.Now())
	r.mu.Unlock()
	if err := r.sink.Close(); err != nil {
		r.log.Warn("sink not closed", "error", err)
	}
}

// describeTrouble keeps the reason why deliveries stand still, for the cursor's row.
func (r *runner) describeTrouble(now time.Time) {
	trouble := ""
	switch {
	case r.breaker.open:
		trouble = "destination is down: " + r.breaker.reason
	case r.parked.blocked >= r.sub.Settings.MaxParked:
		trouble = "intake stopped: max_parked messages wait for a retry or a callback"
	case r.scheduledStop():
		trouble = "intake stopped: max_scheduled messages wait for their time, and the next one is another"
	}
	described := trouble
	if ours := r.health.trouble(r.sub.Name); ours != "" {
		described = ours // which is in the log already
	}
	if described != r.describing {
		r.describing, r.dirty = described, true
	}
	if trouble == r.trouble {
		return
	}
	r.trouble = trouble
	r.troubles.tell(r.log, r.sub.Name, trouble, now)
	down, stopped := 0.0, 0.0
	switch {
	case r.breaker.open:
		down = 1
	case trouble != "":
		stopped = 1
	}
	r.metrics.down.Set(down)
	r.metrics.stopped.Set(stopped)
}

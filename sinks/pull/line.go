package pull

import (
	"time"

	"github.com/postrider/postrider/sinks"
)

// Setup is what a subscription's settings say of its jobs.
type Setup struct {
	WorkerTTL      time.Duration // how long a worker may be silent
	AttemptTimeout time.Duration // how long an attempt may take without progress
	MaxAttempts    int           // for people
}

// classes are the priorities that messages have.
const classes = 4

// line is one subscription's jobs, and the calls that wait for one.
type line struct {
	name     string
	setup    Setup
	open     bool // the relay delivers here; else there are only calls, which wait for that
	served   bool // the leases that the relay has found are here: before that, nothing is known of their tokens
	leaving  bool // it was relinquished: nothing is handed out any more
	opened   time.Time
	asked    time.Time                        // when a worker last asked for its jobs
	settle   func(token int64, outcome error) // says what came of a lease
	marked   map[int64]bool                   // messages that are doubtful when they are sent again
	waiting  [classes]list[job]
	doubtful list[job]
	jobs     map[*job]bool // all of them
	out      int
	calls    list[call] // wait for a job
	woken    list[call] // were woken, have not looked yet, and may take along more
}

// place returns the queue that the job belongs to.
func (l *line) place(j *job) *list[job] {
	if j.doubtful {
		return &l.doubtful
	}
	class := int(j.Priority)
	if class < 1 || class > classes {
		class = sinks.DefaultPriority
	}
	return &l.waiting[class-1]
}

// first returns the job that is next for a worker, nil if there is none that it may have.
func (l *line) first(bare bool) *job {
	if l.leaving {
		return nil
	}
	if bare && l.doubtful.first != nil {
		return l.doubtful.first.of
	}
	for i := range l.waiting {
		if s := l.waiting[i].first; s != nil {
			return s.of
		}
	}
	return nil
}

// here says whether what is said of the line's jobs can be understood now.
func (l *line) here() bool { return l != nil && l.open && l.served && !l.leaving }

// idle says that nothing is left of the line.
func (l *line) idle() bool { return !l.open && l.calls.n == 0 && l.woken.n == 0 && len(l.jobs) == 0 }

// forget drops the job without a word to the relay.
func (c *core) forget(j *job) {
	c.takeBack(j)
	j.spot.leave()
	delete(j.line.jobs, j)
	delete(c.byToken, j.token)
	c.unwatch(j)
}

// end tells the relay what came of the job, and forgets it.
func (c *core) end(j *job, outcome error) {
	c.forget(j)
	if j.lease.out {
		j.line.settle(j.lease.token, outcome)
		return
	}
	j.done(outcome)
}

// takeBack takes the job from whoever has it.
func (c *core) takeBack(j *job) {
	if j.with == nil {
		return
	}
	w := j.with
	delete(w.holds, j)
	if w.doubtful == j {
		w.doubtful = nil
		c.freed = append(c.freed, w)
	}
	j.with = nil
	j.line.out--
	c.checks.remove(j)
}

// again makes a job that is out wait, before all others of its class. Whoever comes back with its token may still settle it.
func (c *core) again(j *job, doubtful bool) {
	c.takeBack(j)
	if j.lease.out {
		if doubtful && len(j.line.marked) < mostMarked {
			j.line.marked[j.ID] = true
		}
		c.remember(j.token, Late)
		c.end(j, sinks.Released())
		return
	}
	if j.unwanted {
		c.withdraw(j)
		return
	}
	j.doubtful = doubtful
	j.line.place(j).pushFront(&j.spot)
	c.stirred = append(c.stirred, j.line)
}

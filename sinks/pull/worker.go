package pull

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// worker is whoever calls under a name.
type worker struct {
	name, incarnation string
	former            []string // incarnations that the name had before
	since             time.Time
	seen              time.Time // its last call
	took              time.Time // when it last got a job
	holds             map[*job]bool
	doubtful          *job // one of these: while it has it, it gets nothing else
	calls             map[*call]bool
	unheard           map[string]*worker // other incarnations whose leases were found, and which have not called here
}

const (
	mostFormer  = 8 // incarnations that are remembered of a name
	mostWorkers = 10_000
	forgetAfter = 1 * time.Hour // a worker that is silent and has nothing
)

// ErrCrowded is for a worker that has a new name, when there are too many.
var ErrCrowded = fmt.Errorf("there are %d names of workers already: a worker has to call by the same name each time it is started", mostWorkers)

// ReplacedError is for a worker whose name another incarnation has used since.
type ReplacedError struct{ Name, By string }

// Error says what happened.
func (e *ReplacedError) Error() string {
	return fmt.Sprintf("another incarnation of worker %q has called since: what this one had is given to others", e.Name)
}

// called notes that a worker has called.
func (c *core) called(by Caller) (*worker, error) {
	w := c.workers[by.Worker]
	if w == nil && len(c.workers) >= mostWorkers {
		return nil, ErrCrowded
	}
	if w == nil {
		w = c.newWorker(by)
	}
	if w.incarnation != by.Incarnation {
		if slices.Contains(w.former, by.Incarnation) {
			return nil, &ReplacedError{by.Worker, w.incarnation}
		}
		c.lose(w, errRestarted, func(*job) bool { return true })
		for x := range w.calls {
			c.dismiss(x)
		}
		w.former = append(w.former, w.incarnation)
		w.former = w.former[max(0, len(w.former)-mostFormer):]
		w.incarnation, w.since = strings.Clone(by.Incarnation), c.now
		w.inherit()
	}
	w.seen = c.now
	return w, nil
}

func (c *core) newWorker(by Caller) *worker {
	w := newWorker(by, c.now)
	c.workers[w.name] = w
	return w
}

// newWorker keeps no more of the caller's texts than it has to: they may be parts of a whole request.
func newWorker(by Caller, now time.Time) *worker {
	return &worker{name: strings.Clone(by.Worker), incarnation: strings.Clone(by.Incarnation), since: now, seen: now, holds: make(map[*job]bool), calls: make(map[*call]bool)}
}

// inherit has an incarnation that calls for the first time have the leases of its own that were found.
func (w *worker) inherit() {
	own := w.unheard[w.incarnation]
	if own == nil {
		return
	}
	delete(w.unheard, w.incarnation)
	for j := range own.holds {
		j.with, w.holds[j] = w, true
	}
}

// idle says that nothing of the worker is here.
func (w *worker) idle() bool {
	maps.DeleteFunc(w.unheard, func(_ string, one *worker) bool { return len(one.holds) == 0 })
	return len(w.holds)+len(w.calls)+len(w.unheard) == 0
}

// Lost is a worker that is gone, with what it had.
type Lost struct {
	Worker, Reason string
	Silent         time.Duration
	All            int            // jobs
	Jobs           map[string]int // by subscription, without those that tell of events: these make no further ones
}

var (
	errSilent    = errors.New("the worker that had it is silent")
	errRestarted = errors.New("the worker that had it was started anew")
)

func (w *worker) any(is func(*job) bool) bool {
	for j := range w.holds {
		if is(j) {
			return true
		}
	}
	return false
}

// lose takes jobs from a worker that is gone. Of several, one alone may be to blame: the doubtful one, if the worker had one.
func (c *core) lose(w *worker, why error, which func(*job) bool) {
	alone, doubtful := len(w.holds) == 1, w.doubtful
	lost := Lost{Worker: w.name, Reason: why.Error(), Silent: c.now.Sub(w.seen), Jobs: make(map[string]int)}
	defer func() {
		if lost.All > 0 {
			c.lost(lost)
		}
	}()
	for _, j := range sorted(w.holds) {
		if !which(j) {
			continue
		}
		lost.All++
		if !strings.HasPrefix(j.Topic, "$") {
			lost.Jobs[j.line.name]++
		}
		if alone || j == doubtful {
			c.remember(j.token, Late)
			c.end(j, sinks.Lost(why))
			continue
		}
		c.again(j, true)
	}
}

// sorted are jobs with the newest first: each is put before those that wait.
func sorted(jobs map[*job]bool) []*job {
	all := make([]*job, 0, len(jobs))
	for j := range jobs {
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *job) int {
		if a.ID != b.ID {
			return int(b.ID - a.ID)
		}
		return b.CreatedAt.Compare(a.CreatedAt)
	})
	return all
}

// look does what is due: workers that are silent, attempts that took too long.
func (c *core) look() {
	for len(c.checks) > 0 && !c.checks[0].check.After(c.now) {
		j := c.checks[0]
		w := j.with
		silent := func(j *job) bool { return !c.now.Before(j.silent()) }
		switch {
		case w.any(silent): // first, whatever brought us here: how many it had says who is to blame
			c.lose(w, errSilent, silent)
		case !c.now.Before(j.handed.deadline):
			c.remember(j.token, Late)
			c.end(j, sinks.Failed(fmt.Errorf("the attempt took longer than attempt_timeout (%s)", j.line.setup.AttemptTimeout), 0))
		default:
			if j.doubtful && !c.now.Before(j.cleared()) {
				j.doubtful, w.doubtful = false, nil
				c.freed = append(c.freed, w)
			}
			if c.now.Sub(j.handed.at) >= leaseAfter {
				c.leaseOut(j)
			}
			c.renew(j, j.line.setup.AttemptTimeout/4)
			c.checks.schedule(j)
		}
	}
	c.sweep()
}

// sweep forgets workers that have not been here for long.
func (c *core) sweep() {
	if c.now.Sub(c.swept) >= forgetAfter/4 {
		c.swept = c.now
		for name, w := range c.workers {
			if w.idle() && c.now.Sub(w.seen) >= forgetAfter {
				delete(c.workers, name)
			}
		}
	}
}

package pull

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

const (
	leaseAfter = 30 * time.Second // a job that is out for so long becomes a row
	grace      = 30 * time.Second // for workers whose leases were found by a relay that they have not called yet
	tellEvery  = 5 * time.Second  // between two rows of one job's progress
	mostMarked = 10_000
)

// leasing is what is known of a job that became a row: its worker's word then goes to the relay as what came of the lease.
type leasing struct {
	out    bool
	token  int64     // of the lease, which is that of the hand-out
	until  time.Time // as the row has it
	spared time.Time // its worker does not count as lost before
	told   time.Time // when the row was last told of something
}

// leaseOut makes a row of a job that is out.
func (c *core) leaseOut(j *job) {
	if j.lease.out {
		return
	}
	left := c.left(j)
	done := j.done
	j.lease = leasing{out: true, token: j.token, until: c.now.Add(left), told: c.now}
	c.unwatch(j)
	j.done, j.handed.news = nil, false
	done(sinks.LeasedTo(j.with.text(), left, j.token, j.handed.progress.text()))
}

// left is what is left of the attempt's time.
func (c *core) left(j *job) time.Duration { return max(j.handed.deadline.Sub(c.now), time.Second) }

// renew has the row know of progress, and of a deadline that has moved, unless it has moved by less than that.
func (c *core) renew(j *job, least time.Duration) {
	news := j.handed.news && !c.now.Before(j.lease.told.Add(tellEvery))
	if j.lease.out && (news || j.handed.deadline.Sub(j.lease.until) >= least) {
		left := c.left(j)
		j.lease.until, j.lease.told, j.handed.news = c.now.Add(left), c.now, false
		j.line.settle(j.lease.token, sinks.LeasedTo(j.with.text(), left, j.lease.token, j.handed.progress.text()))
	}
}

// leaseLong makes rows of what has been out for that long.
func (c *core) leaseLong(l *line, since time.Duration) {
	for j := range l.jobs {
		if j.with != nil && c.now.Sub(j.handed.at) >= since {
			c.leaseOut(j)
			c.checks.schedule(j)
		}
	}
}

// adopt takes in leases that were found.
func (c *core) adopt(l *line, leases []sinks.Lease) {
	for _, found := range leases {
		w := c.holderOf(found)
		if w == nil {
			c.remember(found.Token, Late)
			l.settle(found.Token, sinks.Lost(errRestarted))
			continue
		}
		spared := c.now.Add(grace)
		deadline := found.Until
		if deadline.Before(spared) {
			deadline = spared
		}
		j := &job{line: l, token: found.Token, heapIndex: -1, Delivery: sinks.Delivery{Message: &sinks.Message{ID: found.ID}, Subscription: l.name, Attempt: found.Attempt},
			handed: handing{at: c.now, deadline: deadline}, lease: leasing{out: true, token: found.Token, until: found.Until, spared: spared}}
		j.spot.of = j
		l.jobs[j] = true
		c.byToken[j.token] = j
		c.give(j, w)
		c.checks.schedule(j)
	}
}

// holderOf returns the worker that has a lease, nil if it has been started anew since. Of an incarnation that has not called here nobody knows
// whether it came before or after the one that has.
func (c *core) holderOf(found sinks.Lease) *worker {
	name, incarnation, ok := callerOf(found.Worker)
	if !ok {
		return nil
	}
	by := Caller{Worker: name, Incarnation: incarnation}
	w := c.workers[name]
	switch {
	case w == nil:
		return c.newWorker(by)
	case w.incarnation == incarnation:
		return w
	case slices.Contains(w.former, incarnation):
		return nil
	case w.unheard[incarnation] == nil:
		if w.unheard == nil {
			w.unheard = make(map[string]*worker)
		}
		w.unheard[incarnation] = newWorker(by, c.now)
	}
	return w.unheard[incarnation]
}

// text is a worker as rows have it: its name and, behind the last blank, its incarnation.
func (w *worker) text() string { return w.name + " " + w.incarnation }

func callerOf(text string) (name, incarnation string, ok bool) {
	at := strings.LastIndexByte(text, ' ')
	if at < 0 {
		return "", "", false
	}
	return text[:at], text[at+1:], true
}

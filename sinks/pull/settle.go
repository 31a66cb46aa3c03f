package pull

import (
	"errors"
	"time"

	"github.com/postrider/postrider/sinks"
)

// Answer is what a settle is told.
type Answer string

// The answers. Late alone means that what was done should be undone: the job is somebody else's. Cancelled: it was to be done by nobody any
// more, and nobody else gets it. Unknown says nothing. Moving is the only one
// that settles nothing: whoever has the subscription by then is to be told again.
const (
	OK        Answer = "ok"
	Late      Answer = "late"
	Cancelled Answer = "cancelled"
	Unknown   Answer = "unknown"
	Moving    Answer = "moving"
)

// Outcome is what a worker says of a job.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Retry   Outcome = "retry"
	Dead    Outcome = "dead"
	Snooze  Outcome = "snooze"
	Release Outcome = "release"
)

// Outcomes are all of them.
var Outcomes = []Outcome{Done, Retry, Dead, Snooze, Release}

// Held names a job that a worker holds.
type Held struct {
	Subscription string
	ID           int64
	Token        string
}

// Item is what a worker says of a job that it held.
type Item struct {
	Held
	Outcome Outcome
	After   time.Duration // of a retry or a snooze; 0: the relay chooses
	Reason  string
	Result  []byte // of done: JSON
}

// find returns the job that a token stands for, with the token.
func (c *core) find(h Held) (*job, int64) {
	token := parseToken(h.Token)
	j := c.byToken[token]
	if j == nil || j.ID != h.ID || j.line.name != h.Subscription {
		return nil, token
	}
	return j, token
}

// settle ends the job that an item names. One that was given up and waits is still its worker's.
func (c *core) settle(item Item) Answer {
	j, token := c.find(item.Held)
	if j == nil {
		a := c.memory.answer(token)
		if a == Unknown && !c.lines[item.Subscription].here() {
			return Moving // whoever gets the line finds it among the leases
		}
		return a
	}
	if item.Outcome == Release {
		j.doubtful = false
		if j.with != nil {
			c.again(j, false)
		}
		if j.lease.out || j.unwanted {
			c.remember(token, OK)
		}
		return OK
	}
	c.remember(token, OK)
	c.end(j, outcomeOf(item))
	return OK
}

func outcomeOf(item Item) error {
	reason := item.Reason
	if reason == "" {
		reason = "the worker says that it failed"
	} else {
		reason = "the worker says: " + reason
	}
	switch item.Outcome {
	case Retry:
		return sinks.Failed(errors.New(reason), item.After)
	case Dead:
		return sinks.Permanent(errors.New(reason))
	case Snooze:
		return sinks.Snoozed(item.After)
	}
	return sinks.Accepted(item.Result)
}

// onTheWay is how long an answer may take to reach its worker: what was handed out less long ago may be missing in a list of what it holds.
const onTheWay = 5 * time.Second

// holding takes from the worker what a complete list of what it holds leaves out.
func (c *core) holding(w *worker, list []Held) {
	named := make(map[*job]bool, len(list))
	for _, h := range list {
		j, _ := c.find(h)
		if j == nil {
			continue
		}
		named[j] = true
		if j.with == nil && c.now.Before(j.handed.deadline) { // it was given up, and nobody has it yet
			j.spot.leave()
			j.doubtful = false // whatever silenced the worker, it lives
			c.give(j, w)
			c.checks.schedule(j)
		}
	}
	for _, j := range sorted(w.holds) {
		if !named[j] && c.now.Sub(j.handed.at) >= onTheWay {
			c.again(j, false)
		}
	}
}

// answered returns what of the list is settled with that answer.
func (c *core) answered(a Answer, list []Held) (gone []Held) {
	for _, h := range list {
		if j, token := c.find(h); j == nil && c.memory.answer(token) == a {
			gone = append(gone, h)
		}
	}
	return gone
}

// Working is what a worker tells of a job that it works on.
type Working struct {
	Held
	Progress
}

// progress moves the attempt's deadline, and is kept where people can see it: not each time, if it comes often.
func (c *core) progress(p Working) {
	j, _ := c.find(p.Held)
	if j == nil || j.with == nil {
		return
	}
	j.handed.deadline = c.now.Add(j.line.setup.AttemptTimeout)
	if p.Progress != j.handed.progress {
		j.handed.progress, j.handed.news = p.Progress, true
	}
	c.leaseOut(j)
	c.renew(j, j.line.setup.AttemptTimeout/4)
	c.checks.schedule(j)
}

// cancel ends the jobs of messages: those that somebody has only if their value is false, else when they come back.
func (c *core) cancel(l *line, messages map[int64]bool) {
	for j := range l.jobs {
		waiting, named := messages[j.ID]
		switch {
		case !named:
		case j.with == nil || !waiting:
			c.withdraw(j)
		default:
			j.unwanted = true
		}
	}
}

func (c *core) withdraw(j *job) {
	c.remember(j.token, Cancelled)
	c.end(j, sinks.Released())
}

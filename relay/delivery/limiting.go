package delivery

import (
	"strings"
	"time"

	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/limits"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/subscription"
)

// limiting keeps the subscription's limits: what begins is counted when it goes into a batch, until its batch has come back. What a sink has
// leased by itself counts until its lease ends.
type limiting struct {
	*limits.Limiter                     // nil: there are none
	byKey           bool                // messages are told apart by their keys
	header          string              // or by this header
	program         *expression.Program // or by what this says of them
	turns           bool                // values take turns
	now             time.Time           // of the step

	crowd      string // the value of which the most is kept back by its own limits
	crowdSince time.Time
}

func newLimiting(s subscription.Limits, by *expression.Program, strict bool) (l limiting) {
	if s == (subscription.Limits{}) {
		return limiting{}
	}
	l.turns = s.Per.By != "" && !strict // where everything waits for what was inserted before it, there is no choice
	l.header = s.Per.Header()
	l.program = by
	l.byKey = s.Per.By != "" && l.header == "" && by == nil
	l.Limiter = limits.New(limitOf(s.Limit), limitOf(s.Per.Limit))
	return l
}

func limitOf(l subscription.Limit) limits.Limit {
	return limits.Limit{InFlight: l.InFlight, Rate: limits.Rate{Count: l.Rate.Count, Per: l.Rate.Per}}
}

// round begins a step.
func (l *limiting) round(now time.Time) {
	if l.Limiter != nil {
		l.now = now
		l.Round()
	}
}

// valueOf is what a message is told apart by, "" for nothing: if it does not have it, or is still to be read.
func (r *Runner) valueOf(row *message.Row) string {
	l := &r.limits
	switch {
	case l.byKey:
		return strings.Clone(row.Key) // which would keep the whole message
	case l.program != nil:
		return r.evaluated(row)
	case l.header == "" || row.Withheld:
		return ""
	}
	headers, err := row.HeaderMap()
	if err != nil {
		return "" // which the sink will say
	}
	for name, value := range headers {
		if strings.EqualFold(name, l.header) {
			return value
		}
	}
	return ""
}

// evaluated is what an expression tells a message apart by. What it cannot say of a message is nothing.
func (r *Runner) evaluated(row *message.Row) string {
	if row.Withheld && r.limits.program.Carried() {
		return ""
	}
	value, cost, err := r.limits.program.Value(&row.Message, &row.Memo)
	r.count(cost)
	r.filtering.work += cost * costWork
	if err != nil {
		return ""
	}
	return value
}

// joinLimits has a task wait for its turn.
func (r *Runner) joinLimits(t *task) {
	if l := &r.limits; l.Limiter != nil {
		t.of = l.Join(r.valueOf(t.row), l.now)
	}
}

func (l *limiting) leave(t *task) {
	if l.Limiter != nil {
		l.Leave(t.of)
	}
}

// lets says whether the task may begin now.
func (l *limiting) lets(t *task) bool { return l.Limiter == nil || l.May(t.of, l.now) }

// begin takes the task into account, if it may begin now and it is its value's turn.
func (l *limiting) begin(t *task) bool {
	switch {
	case l.Limiter == nil:
		return true
	case l.turns && !l.Shared(t.of), !l.May(t.of, l.now):
		return false
	}
	l.started(t)
	return true
}

func (l *limiting) started(t *task) {
	if l.Limiter != nil {
		l.Begin(t.of, l.now)
		t.begun = true
	}
}

// end takes tasks that have come back out of account.
func (l *limiting) end(batch []*task) {
	if l.Limiter == nil {
		return
	}
	for _, t := range batch {
		if t.begun {
			l.End(t.of)
			t.begun = false
		}
	}
}

// leased keeps the count of what a sink has leased by itself.
func (l *limiting) leased(e *entry, n int) {
	if n < 0 {
		l.End(e.of)
		l.Leave(e.of)
		e.of = nil
		return
	}
	name := ""
	switch {
	case e.of != nil:
		name = e.of.Name
	case l.byKey: // of what was found in the table nothing else is known
		name = e.key
	}
	e.of = l.Join(name, l.now)
	l.Resume(e.of)
}

// allot shares what may begin out among what could, and says whether anything may.
func (r *Runner) allot(most int, waiting func(yield func(*task) bool)) bool {
	l := &r.limits
	switch {
	case l.Limiter == nil:
		return true
	case !l.turns, l.Room(l.now, 1) == 0:
		return l.Room(l.now, 1) > 0
	}
	parks := false             // there is something to park behind another message of its key
	keys := r.lanes.formKeys() // what stands behind the first of its key wants nothing yet
	defer clear(keys)
	n := l.Share(l.now, most, func(yield func(*limits.Value) bool) {
		for t := range waiting {
			gate := r.retries.gate(t)
			if gate == gateHold {
				parks = true
				continue
			}
			if t.key != "" && keys[t.key] {
				continue
			}
			keys[t.key] = true
			if gate == gateOpen && !r.breaker.restrained(t) && !yield(t.of) {
				return
			}
		}
	})
	if l.crowd == "" {
		l.crowdSince = l.now
	}
	l.crowd = l.Crowd()
	return n > 0 || parks
}

// crowded is how long messages of some value must have been kept back, with no room for others, before that counts as trouble.
const crowded = 10 * time.Second

// heldUpBy names the value of which the most is kept back.
func (l *limiting) heldUpBy(now time.Time) string {
	if l.Limiter == nil || l.crowd == "" || now.Sub(l.crowdSince) < crowded {
		return ""
	}
	return l.crowd
}

// allotLane shares out what a lane to a sink that takes batches may deliver.
func (r *Runner) allotLane(l *lane) bool {
	return r.allot(l.batchMax, func(yield func(*task) bool) {
		for t := range l.queue.all {
			if !yield(t) {
				return
			}
		}
		r.lanes.free.all(yield)
	})
}

// allotReady shares out what may be sent one by one.
func (r *Runner) allotReady() bool {
	return r.allot(r.lanes.most-r.lanes.inFlight, func(yield func(*task) bool) {
		for _, l := range r.lanes.idle() {
			if l.busy {
				continue
			}
			for t := range l.queue.all { // one of its key, of which one at a time may go
				if !yield(t) {
					return
				}
				if r.retries.gate(t) == gateOpen {
					break
				}
			}
		}
	})
}

// waits says whether anything was kept back in this step.
func (l *limiting) waits() bool { return l.Limiter != nil && l.KeptBack() }

// until is when a rate lets something go that was kept back in this step; zero if none keeps anything back.
func (l *limiting) until() time.Time {
	if l.Limiter == nil {
		return time.Time{}
	}
	return l.Until()
}

// nextRoom is when to check whether more may go, at the latest: an hour, or until something happens.
func (r *Runner) nextRoom(now time.Time) time.Duration {
	next := time.Hour
	if until := r.limits.until(); !until.IsZero() {
		next = min(next, until.Sub(now))
	}
	if r.awaitsRest() {
		next = min(next, leaseSome)
	}
	return next
}

// by names what messages are told apart by.
func (l *limiting) by() string {
	switch {
	case l.program != nil:
		return "the value"
	case l.header != "":
		return l.header
	}
	return "key"
}

package delivery

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

const (
	TripAfter  = 5 // deliveries in a row without one that passed, after which a destination counts as down
	probeFirst = 250 * time.Millisecond
	probeMost  = 30 * time.Second
	probesMost = 64   // messages in a round of probes
	widestLook = 4096 // messages in memory while none passes: one of them may
)

// breaker keeps deliveries off a destination that is down, and tells "this message" from "this destination": a destination counts as
// down only while nothing gets through.
//
// While it is open, rounds of probes follow one another, after longer and longer waits and with twice as many messages each time. Those
// that have not failed yet go first, then those whose failure is longest ago, so that probes go on through all that waits; when all
// in memory has failed, more is taken in. The first message that gets through closes the breaker.
//
// A message that failed, and nothing says whose fault that is, is a suspect: it stays where it is, and its key waits. If something else
// gets through, it is sent again, and if it fails again, it is to blame and is parked. So an outage parks nothing at first, and later
// as few as it takes to find out: see explore.
type breaker struct {
	open   bool
	reason string
	// misconfigured says that the reason is what somebody has to change.
	misconfigured bool
	rounds        rounds
	opened        int       // number of the last delivery that had started when it opened
	since         time.Time // when it opened
	parked        int       // messages that explore has parked
	wide          bool      // more is taken in than the lanes need
	fresh         bool      // there may be messages in memory that have not failed yet

	blames   bool // a message was found to be to blame lately: one more failure says little about the destination
	evidence evidence
}

// fault is what is known of a suspect.
type fault struct {
	last  int    // number of the delivery in which it failed the last time
	since int    // what was sent later than this delivery and got through shows that the destination worked meanwhile
	times int    // it has failed
	why   string // it failed the last time
}

// trip opens the breaker, or keeps it open. What of the deliveries, so many of which have started, began before says nothing about whether
// the destination is back.
func (b *breaker) trip(now time.Time, f failedDelivery, started int) {
	if b.open {
		b.rounds.next = later(b.rounds.next, now.Add(f.after))
		return
	}
	waits := b.rounds.waits
	if waits == nil {
		waits = backoff.NewExponentialBackOff(backoff.WithInitialInterval(probeFirst),
			backoff.WithMaxInterval(probeMost), backoff.WithMaxElapsedTime(0))
	}
	waits.Reset()
	*b = breaker{open: true, reason: f.err.Error(), misconfigured: f.kind == sinks.KindMisconfigured,
		rounds: rounds{waits: waits, quota: 1, next: now.Add(max(waits.NextBackOff(), f.after))}, opened: started, since: now, fresh: true, evidence: b.evidence}
}

// destination is what this runner knows: one that has just begun leaves it as it was.
func (b *breaker) destination() store.Destination {
	switch {
	case b.open:
		return store.DestinationDown
	case b.evidence.throughAt > 0:
		return store.DestinationWorks
	}
	return store.DestinationUnknown
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// close lets deliveries go on as usual.
func (b *breaker) close() {
	*b = breaker{rounds: rounds{waits: b.rounds.waits}, blames: b.blames, evidence: b.evidence}
}

// gotThrough draws the conclusion from a delivery that the destination answered as one that works does. True: that closes the breaker.
func (b *breaker) gotThrough(delivery int) (closed bool) {
	b.evidence.throughAt = max(b.evidence.throughAt, delivery)
	b.evidence.failures, b.evidence.heldUnproven = 0, 0
	if closed = b.open && delivery > b.opened; closed {
		b.close()
	}
	return closed
}

// restrained says whether a suspect must wait until something that was sent later has got through.
func (b *breaker) restrained(t *task) bool {
	return t.fault != nil && b.evidence.throughAt <= t.fault.since
}

// suspect makes the task one, or remembers that it has failed again. The probes of a round are sent at about the same time.
func (b *breaker) suspect(t *task, l *lane, probe bool, why string) {
	if t.fault == nil {
		t.fault = &fault{}
		b.evidence.suspects++
	}
	t.fault.last, t.fault.since, t.fault.why = l.started, l.started, why
	if probe {
		t.fault.since = b.rounds.began
	}
	t.fault.times++
}

// heldUnprovenMost bounds the messages that are held behind failed ones of their keys while nothing gets through.
const heldUnprovenMost = 64

// holds says whether a message may become an exception behind the one that its key waits for. In an outage of which nothing is known yet
// all that waits would become exceptions.
func (r *Runner) holds(t *task) bool {
	if t.entry == nil && !r.retries.parked.blocked.bears(r.Env.order().parkedKey(t.key)) {
		return false
	}
	head := r.retries.parked.head(t.keyed())
	return t.entry != nil || head == nil || head.state != states.Retrying || r.breaker.evidence.throughAt > head.failedAt || r.breaker.evidence.heldUnproven < heldUnprovenMost
}

// onlySuspects says whether nothing is left to deliver but what must wait until something else has got through.
func (r *Runner) onlySuspects() bool {
	return (r.breaker.evidence.suspects > 0 || r.breaker.evidence.heldUnproven >= heldUnprovenMost) && r.lanes.tasks > 0 && r.lanes.inFlight == 0 && r.lanes.lingers.IsZero() && !r.limits.waits()
}

var errSuspects = errors.New("all that could be delivered has failed")

// probe sends messages of a round, if it is time.
func (r *Runner) probe(now time.Time) {
	b := &r.breaker
	if !b.rounds.underWay {
		if now.Before(b.rounds.next) {
			return
		}
		b.rounds.underWay, b.rounds.began, b.rounds.left, b.rounds.sent = true, r.lanes.started, b.rounds.quota, 0
	}
	for b.rounds.left > 0 && r.lanes.hasRoom() && r.sendProbe(now) {
		b.rounds.left--
		b.rounds.sent++
	}
	if b.rounds.out > 0 || b.rounds.left > 0 && r.limits.waits() {
		return
	}
	b.rounds.underWay = false
	if b.rounds.sent == 0 {
		r.probeParked() // the round begins when there is something to send
		r.widen()
		return
	}
	b.rounds.quota = min(2*b.rounds.quota, probesMost)
	b.rounds.next = later(b.rounds.next, now.Add(b.rounds.waits.NextBackOff()))
	r.explore(now)
}

// sendProbe sends the message that most likely tells something new. False: all that may be sent has failed in this round.
func (r *Runner) sendProbe(now time.Time) bool {
	var best *task
	var carrier *lane
	for l, t := range r.heads {
		switch f := t.fault; {
		case f != nil && (f.last > r.breaker.rounds.began || best != nil && f.last >= best.fault.last), !r.limits.lets(t):
			continue
		}
		best, carrier = t, l
		if t.fault == nil {
			break
		}
	}
	if best == nil {
		return false
	}
	r.lanes.withdraw(best)
	r.limits.started(best)
	carrier.batch = append(carrier.batch[:0], best)
	carrier.probes = true
	r.breaker.rounds.out++
	carrier.send(r, now)
	return true
}

// heads yields what may be delivered next, each with an idle lane: the first message of each key, and those without a key.
func (r *Runner) heads(yield func(*lane, *task) bool) {
	var idle *lane
	for _, l := range r.lanes.idle() {
		if l.busy {
			continue
		}
		idle = l
		keys := make(map[string]bool)
		for t := range l.queue.all {
			if keys[t.key] {
				continue
			}
			gate := r.retries.gate(t)
			keys[t.key] = gate != gateHold // whom it waits for may stand behind it
			if gate == gateOpen && !r.logFirst(t) && !r.tooLarge(t) && !yield(l, t) {
				return
			}
		}
	}
	for t := range r.lanes.free.all {
		if r.tooLarge(t) {
			continue
		}
		if idle == nil || r.strictWait(t) || !yield(idle, t) || r.Env.order().strict() {
			return
		}
	}
}

// withdraw takes a task out of its queue.
func (ls *lanes) withdraw(t *task) {
	switch {
	case t.lane != nil:
		t.lane.queue.remove(t)
	case t.key != "":
		ls.laneOf(t.key).queue.remove(t)
	default:
		ls.free.remove(t)
	}
}

// probeParked gets a parked message to probe with, as there is nothing else: one that is due, or else the next retry. A destination that
// is back is not to wait until that is due; the early attempt counts only if it works.
func (r *Runner) probeParked() {
	if r.breaker.fresh {
		r.breaker.fresh = false
		r.Life.Wake() // what is due is taken now
		return
	}
	if r.retries.loading || len(r.retries.toLoad) > 0 {
		return
	}
	if e := r.retries.parked.nextRetry(); e != nil {
		r.retries.load(e)
		r.startLoad()
	}
}

type evidence struct {
	throughAt    int // number of the latest delivery in which something got through
	failures     int // deliveries in a row in which nothing did
	suspects     int // tasks with a fault
	heldUnproven int // held since something got through the last time, behind messages that had failed by then
}

type rounds struct {
	underWay bool // one is under way
	began    int  // number of the last delivery that had started when it began
	left     int  // messages that may still be sent in it
	out      int  // lanes that carry one
	sent     int  // messages that were sent in it
	quota    int  // messages in a round
	waits    *backoff.ExponentialBackOff
	next     time.Time // when the next round begins, if none is under way
}

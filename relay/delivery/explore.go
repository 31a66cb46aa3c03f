package delivery

import (
	"math"
	"slices"
	"time"
)

const (
	exploreAfter = 12 * time.Second // in which nothing got through,
	patientTimes = 4                // or failures of the one message that all others wait for
	exploreFirst = 16               // messages that it parks at first, where that may help,
	exploreEvery = 6 * time.Second  // and twice as many after each such time,
	exploreMost  = 64
	exploreFew   = 16 // messages that it takes for bad ones though nobody waits for them
)

// explore parks some messages when all in memory have failed: others may wait behind them, or for room, and bad ones are to end as dead
// letters though nothing else comes that could show that the destination works. If it is down after all, these few are retried on
// their own schedule, or when it is back.
func (r *Runner) explore(now time.Time) {
	b := &r.breaker
	var failed []*task
	heads := 0
	b.fresh = false
	for _, t := range r.heads {
		heads++
		b.fresh = b.fresh || t.fault == nil
		if t.fault != nil && t.entry == nil {
			failed = append(failed, t)
		}
	}
	if b.fresh {
		return
	}
	r.widen()
	if len(failed) == 0 || r.retries.parked.blocked.full() {
		return
	}
	if heads == 1 && r.lanes.tasks > 1 { // at most one at a time
		if failed[0].fault.times >= patientTimes || b.parked > 0 {
			r.blame(failed[0], now)
			b.rounds.waits.Reset()
			b.parked++
		}
		return
	}
	failed, most := r.suspected(failed, heads, now.Sub(b.since))
	for _, t := range failed[:min(len(failed), max(most-b.parked, 0))] {
		r.blame(t, now)
		b.rounds.waits.Reset() // for their next attempts
		b.parked++
	}
}

// suspected chooses the messages that explore may park, and returns how many it may have parked by now. Where it can help, it is some
// dozens in the first minute: what it takes to get past as many bad ones. Else it is a handful in an hour: where dozens of messages
// have failed that nobody waits for, the destination is down.
func (r *Runner) suspected(failed []*task, heads int, down time.Duration) (chosen []*task, most int) {
	if down < exploreAfter {
		return nil, 0
	}
	slowly := int(math.Sqrt(down.Minutes()))
	quickly := min(exploreFirst<<min((down-exploreAfter)/exploreEvery, 8), exploreMost) + slowly
	noRoom := !slices.ContainsFunc(r.intakes, func(in *intake) bool { return !r.full(in) && (in.pass.reader != nil || in.live.queue != nil) })
	if heads <= exploreFew || noRoom && heads < probesMost {
		return failed, quickly
	}
	waiting := make(map[string]int)
	for _, l := range r.lanes.all {
		for t := range l.queue.all {
			waiting[t.key]++
		}
	}
	delete(waiting, "") // of a sender: which nobody waits for
	for _, t := range failed {
		if waiting[t.key] > 1 {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) > 0 {
		return chosen, quickly
	}
	return failed, slowly
}

// widen takes more in: what is in memory tells nothing new.
func (r *Runner) widen() {
	if !r.breaker.wide {
		r.breaker.wide = true
		r.Life.Wake()
	}
}

// blame parks a suspect that is in its queue.
func (r *Runner) blame(t *task, now time.Time) {
	r.lanes.withdraw(t)
	r.free(t)
	t.attempts = 1
	r.retry(t, t.fault.why, 0, now)
}

package delivery

import (
	"errors"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// leasing is between a runner and a sink that leases by itself.
type leasing struct {
	to    sinks.Lessor // nil: it does not
	found []sinks.Lease
	asked time.Time // when it was told the last time to lease what is out
}

// leaseEnd is what a sink says of a lease.
type leaseEnd struct {
	token   int64
	outcome error
}

// serve has the sink know what was leased before it was opened.
func (r *Runner) serve() {
	if to := r.lanes.leasing.to; to != nil {
		to.Serve(r.lanes.leasing.found, r.leaseEnds)
		r.lanes.leasing.found = nil
	}
}

// leaseEnds is called by the sink: something came of a lease.
func (r *Runner) leaseEnds(token int64, outcome error) {
	r.lanes.finished.Lock()
	r.lanes.finished.leases = append(r.lanes.finished.leases, leaseEnd{token, outcome})
	r.lanes.finished.Unlock()
	r.Life.Wake()
}

// collectLeaseEnds returns what has come of leases. It comes before collectFinished: no lease ends before its delivery does.
func (ls *lanes) collectLeaseEnds() []leaseEnd {
	ls.finished.Lock()
	defer ls.finished.Unlock()
	ends := ls.finished.leases
	ls.finished.leases = nil
	return ends
}

// leaseEnded says whether something has come of a lease that is not concluded yet.
func (ls *lanes) leaseEnded() bool {
	ls.finished.Lock()
	defer ls.finished.Unlock()
	return len(ls.finished.leases) > 0
}

// settled makes one outcome of two, where a delivery was leased and accepted before the runner has heard of either. Nobody can cancel it any
// more, and it needs no row.
func (l *lane) settled(ends []leaseEnd) {
	if len(ends) == 0 {
		return
	}
	for i, outcome := range l.outcomes {
		leased, ok := errors.AsType[*sinks.OutcomeError](outcome)
		if !ok || leased.Kind != sinks.KindLeased || leased.Worker == "" {
			continue
		}
		for _, end := range ends {
			if kind, _ := sinks.Classify(end.outcome); end.token == leased.Token && kind == sinks.KindAccepted {
				l.outcomes[i] = end.outcome
			}
		}
	}
}

// endLease concludes a lease of the sink's. Its attempt was counted when it was leased.
func (r *Runner) endLease(end leaseEnd, now time.Time) {
	e := r.retries.parked.leases[end.token]
	if e == nil {
		return
	}
	kind, after := sinks.Classify(end.outcome)
	r.Env.Metrics.Attempted(kind)
	t := r.retries.taskOf(e)
	t.in.dirty = true
	worker := e.worker
	switch kind {
	case sinks.KindAccepted:
		r.accepted(t, now)
	case sinks.KindLeased:
		e.lease = after
		if o, ok := errors.AsType[*sinks.OutcomeError](end.outcome); ok && o.Progress != nil {
			e.progress = o.Progress
		}
		r.retries.parked.record(&ParkOp{entry: e})
	case sinks.KindSnoozed, sinks.KindReleased:
		t.attempts--
		r.park(t, states.Retrying, now.Add(after), end.outcome.Error())
	case sinks.KindPermanent:
		r.bury(t, end.outcome.Error())
	default:
		r.concludeFailed(t, kind, end.outcome, after, now)
	}
	r.record(attempted{task: t, kind: kind, err: end.outcome, worker: worker}, now)
	r.retries.unblockOthers(e)
}

// concludeFailed parks the task of a lease for its next attempt.
func (r *Runner) concludeFailed(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	if kind == sinks.KindLost || kind == sinks.KindFailed && after > 0 {
		r.retryIn(t, err.Error(), after, now)
		return
	}
	r.retry(t, err.Error(), after, now)
}

// relinquish has the sink hand over what is out, if it can.
func (r *Runner) relinquish() {
	if to, ok := sinks.As[sinks.Relinquisher](r.Env.Sink); ok {
		to.Relinquish()
	}
}

// A sink is told to lease what is out when so much of what came after it is settled: first what has been out for longer than that, then all.
const (
	leaseSomeAt = MaxDone / 2
	leaseAllAt  = MaxDone * 3 / 4
	leaseSome   = time.Second
)

// leaseOut keeps what takes long from holding up what comes after it.
func (r *Runner) leaseOut(in *intake, now time.Time) {
	l := &r.lanes.leasing
	if l.to == nil || in.prog.Done < leaseSomeAt && !r.awaitsRestOf(in) || now.Sub(l.asked) < leaseSome {
		return
	}
	l.asked = now
	since := leaseSome
	if in.prog.Done >= leaseAllAt {
		since = 0
	}
	l.to.LeaseOut(since)
}

// awaitsRest says whether the next pass of some class waits for what is still out of the last one, and the sink can lease that.
func (r *Runner) awaitsRest() bool { return slices.ContainsFunc(r.intakes, r.awaitsRestOf) }

func (r *Runner) awaitsRestOf(in *intake) bool {
	return r.lanes.leasing.to != nil && !r.stopping && in.awaitsRest()
}

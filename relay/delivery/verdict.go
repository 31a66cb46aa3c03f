package delivery

import "github.com/postrider/postrider/sinks"

// action is what becomes of a task after an attempt.
type action int

const (
	actSettle  action = iota // it is delivered
	actLease                 // it is parked until its callback comes
	actBury                  // it is a dead letter
	actRetry                 // it is parked until its next attempt
	actAgain                 // it is parked, and its next attempt may begin at once
	actSnooze                // it is parked for as long as was asked for; the attempt does not count
	actReturn                // it goes back to its lane; the attempt does not count
	actSuspect               // it stays in its lane: the failure may be the destination's, or another message's
	actStop                  // it stays in its lane, and the subscription is paused
)

// situation is what is known beside the outcome of an attempt.
type situation struct {
	told   bool // the outcome is about this message alone
	parked bool // it has a row, which counts its attempts
	proven bool // it has failed before, and something that was sent later got through
	doubt  bool // the destination may be down
}

// whateverElse are the actions of outcomes that need no look at what else is known.
var whateverElse = map[sinks.Kind]action{
	sinks.KindAccepted: actSettle, sinks.KindLeased: actLease, sinks.KindSnoozed: actSnooze, sinks.KindReleased: actReturn, sinks.KindFailed: actRetry,
	sinks.KindLost: actAgain, sinks.KindPermanent: actBury, sinks.KindGone: actStop,
}

// action says what becomes of the task:
//
//	outcome      told  parked  proven  doubt
//	accepted                                  settle
//	leased                                    lease
//	snoozed                                   snooze
//	released                                  return
//	failed                                    retry
//	lost                                      again
//	permanent                                 bury
//	gone                                      stop
//	retryable    no                           suspect
//	             yes   yes                    retry
//	             yes   no      yes            retry
//	             yes   no      no      yes    suspect
//	             yes   no      no      no     retry
//	unavailable  as retryable, and as if there were a doubt; misconfigured likewise
func (s situation) action(kind sinks.Kind) action {
	if a, always := whateverElse[kind]; always {
		return a
	}
	switch {
	case !s.told:
		return actSuspect
	case s.parked, s.proven:
		return actRetry
	case s.doubt, kind.Unavailable():
		return actSuspect
	}
	return actRetry
}

// situation says what the runner knows beside an outcome of the task.
func (b *breaker) situation(t *task, told bool) situation {
	return situation{
		told:   told,
		parked: t.entry != nil,
		proven: told && t.entry == nil && t.fault != nil && b.evidence.throughAt > t.fault.since,
		doubt:  b.open || b.evidence.failures+1 >= TripAfter,
	}
}

package sinks

import (
	"errors"
	"time"
)

// Kind is the class of an outcome.
type Kind int

// The kinds of outcome, from best to worst for the subscription as a whole.
const (
	KindAccepted Kind = iota
	KindLeased
	KindSnoozed
	KindReleased
	KindFailed
	KindLost
	KindRetryable
	KindPermanent
	KindUnavailable
	KindMisconfigured
	KindGone
)

var kindNames = [...]string{"accepted", "leased", "snoozed", "released", "failed", "lost", "retryable", "permanent", "unavailable", "misconfigured", "gone"}

// String returns the kind's name in lower case, as it is used in metrics.
func (k Kind) String() string { return kindNames[k] }

// Unavailable says whether nothing can be delivered for now, be it that the destination is down or that it is set up so.
func (k Kind) Unavailable() bool { return k == KindUnavailable || k == KindMisconfigured }

// OutcomeError is an error with a class. Make one with a function of its name, such as Retryable or Gone.
type OutcomeError struct {
	Kind Kind
	// After is the delay that the destination asked for, zero if it asked for none; of a leased one, the lease.
	After time.Duration
	// Token is the fencing token of a leased delivery.
	Token int64
	// Worker is who has a message that a Lessor has leased.
	Worker string
	// Progress is how far the worker has come, as it has said: JSON, or nothing.
	Progress []byte
	// Result is what came of an accepted delivery: JSON.
	Result []byte
	Err    error
}

// Error returns the reason alone: the class shows in what the relay does.
func (e *OutcomeError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *OutcomeError) Unwrap() error { return e.Err }

var errResult = errors.New("accepted, with a result")

// Accepted is the outcome of a delivery that was confirmed with a result to be kept: JSON that CheckResult lets pass. None is nil, as ever.
func Accepted(result []byte) error {
	if len(result) == 0 {
		return nil
	}
	return &OutcomeError{Kind: KindAccepted, Result: result, Err: errResult}
}

// ResultOf returns the result of an accepted delivery, nil if there is none.
func ResultOf(err error) []byte {
	if o, ok := errors.AsType[*OutcomeError](err); ok && o.Kind == KindAccepted {
		return o.Result
	}
	return nil
}

// errLeasedTo is the reason of those of Lessors.
var errLeasedTo = errors.New("leased; its worker will say what came of it")

// errLeased is the reason of all leased deliveries.
var errLeased = errors.New("leased; a callback will say what came of it")

// Leased says that the destination has leased the message: a callback will tell what came of it. Silence for longer than the
// lease means that the message is delivered again. The token names this attempt: it is positive,
// random, and cannot be guessed: 63 bits of it.
func Leased(lease time.Duration, token int64) error {
	return &OutcomeError{Kind: KindLeased, After: lease, Token: token, Err: errLeased}
}

// errReleased is the reason of all deliveries that nobody has worked on.
var errReleased = errors.New("given back")

// Snoozed says that whoever took the message wants it later, after so long: no attempt counts, and nothing has failed.
func Snoozed(after time.Duration) error {
	return &OutcomeError{Kind: KindSnoozed, After: after, Err: errors.New("snoozed")}
}

// Released says that the message was given back as it was: it may be delivered at once, and no attempt counts.
func Released() error { return &OutcomeError{Kind: KindReleased, Err: errReleased} }

// Failed is Retryable for destinations in which one message's failure says nothing of others, such as workers: it may work later,
// not before after has passed (zero: the relay chooses), and the destination is up.
func Failed(err error, after time.Duration) error {
	return &OutcomeError{Kind: KindFailed, After: after, Err: err}
}

// Lost says that whoever had the message is gone: the attempt counts, and the next one may begin at once.
func Lost(err error) error { return &OutcomeError{Kind: KindLost, Err: err} }

// Retryable says that this message failed and may work later, not before after has passed (zero: the relay chooses).
func Retryable(err error, after time.Duration) error {
	return &OutcomeError{Kind: KindRetryable, After: after, Err: err}
}

// Permanent says that this message can never work as it is.
func Permanent(err error) error { return &OutcomeError{Kind: KindPermanent, Err: err} }

// Unavailable says that the destination is down or asks for a rest, of at least after (zero: the relay chooses).
func Unavailable(err error, after time.Duration) error {
	return &OutcomeError{Kind: KindUnavailable, After: after, Err: err}
}

// Misconfigured is Unavailable for what somebody has to change, here or there: credentials, a topic or stream that does not exist, a
// certificate that is not trusted. The reason says what to change.
func Misconfigured(err error) error { return &OutcomeError{Kind: KindMisconfigured, Err: err} }

// Gone says that the destination asks for no more messages at all.
func Gone(err error) error { return &OutcomeError{Kind: KindGone, Err: err} }

// Classify returns the class of an outcome and the delay that it asks for. An error without a class is Retryable.
func Classify(err error) (Kind, time.Duration) {
	if err == nil {
		return KindAccepted, 0
	}
	if o, ok := errors.AsType[*OutcomeError](err); ok {
		return o.Kind, o.After
	}
	return KindRetryable, 0
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Causes of a handler's cancelled context.
var (
	// ErrLost: others have got the job, or get it, because the worker was silent for too long or the attempt has lasted too long.
	ErrLost = errors.New("the job was lost to others")
	// ErrCancelled: somebody has cancelled the message.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrShutdown: the worker stops and its time to drain is over. What the handler does not finish others do, and no attempt is counted.
	ErrShutdown = errors.New("the worker is stopping")
)

// Outcome is what became of an attempt.
type Outcome struct {
	// Kind is done, retry, dead, snooze or release; empty if the job was lost and there is nothing to say.
	Kind string
	// After is when a retry or snooze is to come again; 0 with retry: after the subscription's backoff.
	After time.Duration
	// Reason is the error's text.
	Reason string
	// Result is what the handler gave to SetResult.
	Result json.RawMessage
}

const (
	kindDone    = "done"
	kindRetry   = "retry"
	kindDead    = "dead"
	kindSnooze  = "snooze"
	kindRelease = "release"
)

// verdict is an error that says what is to become of the job.
type verdict struct {
	kind  string
	after time.Duration
	err   error
}

func (v *verdict) Error() string {
	switch {
	case v.err != nil:
		return v.err.Error()
	case v.kind == kindSnooze:
		return "snoozed for " + v.after.String()
	default:
		return v.kind
	}
}

func (v *verdict) Unwrap() error { return v.err }

// Retry returns an error that tries the job again after a while, and counts the attempt. 0: after the subscription's backoff, as any other error.
func Retry(err error, after time.Duration) error {
	return &verdict{kindRetry, min(max(after, 0), longest), err}
}

// Dead returns an error that makes the job a dead letter at once: further attempts would not help.
func Dead(err error) error { return &verdict{kind: kindDead, err: err} }

// Snooze returns an error that tries the job again after a while and counts no attempt: it is not the time for it yet.
func Snooze(after time.Duration) error {
	return &verdict{kind: kindSnooze, after: min(max(after, time.Millisecond), longest)}
}

const longest = 365 * 24 * time.Hour // that a job can be put off

// judge makes an outcome of what a handler has returned.
func judge(ctx context.Context, job *Job, err error) Outcome {
	cause := context.Cause(ctx)
	v, explicit := errors.AsType[*verdict](err)
	switch {
	case err == nil: // even if it was lost: the server knows whether it came in time
		return Outcome{Kind: kindDone, Result: job.result}
	case errors.Is(cause, ErrLost):
		return Outcome{}
	case errors.Is(cause, ErrShutdown), errors.Is(cause, ErrCancelled):
		return Outcome{Kind: kindRelease, Reason: cause.Error()}
	case explicit:
		return Outcome{Kind: v.kind, After: v.after, Reason: text(err.Error(), maxReason)}
	default:
		return Outcome{Kind: kindRetry, Reason: text(err.Error(), maxReason)}
	}
}

const maxReason = 2000 // bytes

// text makes s fit for PostgreSQL and at most so many bytes long.
func text(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/internal/strict"
)

// Destination is one kind of destinations: all that the rest of Postrider has to know of it. A sink package registers itself by a
// value of it in the list of internal/destination; nothing else names the package.
type Destination struct {
	// Name is what people call it, such as "NATS".
	Name string
	// Schemes are those of the sinks' URLs that lead to it. No two kinds share one.
	Schemes []string
	// Example is a URL that leads to it.
	Example string
	// Options is a value of the struct that a subscription's options are decoded into, nil for none. Its JSON keys are those that may be
	// shown. A field with the tag secret:"reference" holds references to secrets: of what is none, nothing is shown.
	Options any
	// RetrySchedule holds the waits between attempts where a subscription does not choose any. Nil means the usual backoff.
	RetrySchedule []time.Duration
	// ReplayNote is what whoever replays messages should know, empty for nothing.
	ReplayNote string
	// Check says what is wrong with a target, as far as that can be said without connecting: an OptionsError, or an error of the URL.
	// Where this machine is going to open it, secrets reads what it refers to; else it is nil. Errors show no secret.
	Check func(t Target, secrets *secret.Store) error
	// Open returns what delivers to a target. It connects to nothing that it would have to wait for. What would be wrong on any
	// machine, Check has found before.
	Open func(ctx context.Context, t Target, with Surroundings) (Sink, error)
	// Examine looks for what keeps a destination that answers from ever confirming a message, or lets it lose what it has confirmed, and
	// returns an UnfitError for it. Any other error means that it could not look. Nil means that there is nothing to look for.
	Examine func(ctx context.Context, t Target) error
}

// Target is where a subscription delivers to.
type Target struct {
	// URL is the subscription's sink.
	URL string
	// Options are the subscription's options, JSON; empty for none.
	Options json.RawMessage
	// Timeout, Lanes and Batch are the subscription's settings, zero for the sink's own.
	Timeout      time.Duration
	Lanes, Batch int
	// Subscription is whose target it is.
	Subscription string
	// WorkerTTL, AttemptTimeout and MaxAttempts are the subscription's settings, with their defaults.
	WorkerTTL, AttemptTimeout time.Duration
	MaxAttempts               int
}

// Surroundings are what a sink may need of this process.
type Surroundings struct {
	// Log is for an operator.
	Log *slog.Logger
	// Secrets reads what subscriptions may refer to. Nil means whatever this process can read.
	Secrets *secret.Store
	// CallbackURL makes the URLs of asynchronous deliveries, nil if they shall have none.
	CallbackURL func(subscription string, id, token int64) string
	// Workers opens a subscription that workers ask this process for, nil if nobody can.
	Workers func(t Target) (Sink, error)
	// Version is that of this build.
	Version string
	// MeterOf is where a kind of destination, by the first of its schemes, is counted; nil: nobody counts.
	MeterOf func(kind string) *Meter
	// Meter is that of the kind that is opened; nil: nobody counts.
	Meter *Meter
}

// OptionsError is what is wrong with the options, not with the sink's URL.
type OptionsError struct{ Err error }

// Error returns the reason.
func (e OptionsError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e OptionsError) Unwrap() error { return e.Err }

// UnfitError is what keeps a destination from ever confirming a message, and what to do about it.
type UnfitError struct {
	Text, Remedy string
	// Risk says that it confirms messages, and may lose or refuse some.
	Risk bool
}

// Error says what is wrong.
func (e *UnfitError) Error() string { return e.Text }

// DecodeOptions decodes a subscription's options into the struct that to points to. A key that the struct does not have is an error, and
// an UnknownError if all else is right. Errors are OptionsErrors. Empty text changes nothing.
func DecodeOptions(text []byte, to any) error {
	if len(text) == 0 {
		return nil
	}
	err := strict.Unmarshal(text, to)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("options: %w", err)
	if json.Unmarshal(text, reflect.New(reflect.TypeOf(to).Elem()).Interface()) == nil {
		err = Unknown(err)
	}
	return OptionsError{err}
}

// NoOptions refuses options, for kinds whose URL says all.
func NoOptions(t Target, kind string) error {
	if len(t.Options) == 0 || string(t.Options) == "{}" {
		return nil
	}
	return OptionsError{Unknown(fmt.Errorf("options: %s takes none", kind))}
}

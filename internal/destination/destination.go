package destination

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	amqpsink "github.com/postrider/postrider/sinks/amqp"
	kafkasink "github.com/postrider/postrider/sinks/kafka"
	mqttsink "github.com/postrider/postrider/sinks/mqtt"
	natssink "github.com/postrider/postrider/sinks/nats"
	"github.com/postrider/postrider/sinks/postgres"
	pubsubsink "github.com/postrider/postrider/sinks/pubsub"
	"github.com/postrider/postrider/sinks/pull"
	redissink "github.com/postrider/postrider/sinks/redis"
	snssink "github.com/postrider/postrider/sinks/sns"
	"github.com/postrider/postrider/sinks/sql"
	sqssink "github.com/postrider/postrider/sinks/sqs"
	"github.com/postrider/postrider/sinks/stdout"
	"github.com/postrider/postrider/sinks/webhook"
)

// all are the kinds of destinations of this build. To add one, add it here.
var all = []sinks.Destination{
	webhook.Destination, natssink.Destination, kafkasink.Destination, postgres.Destination, pull.Destination, amqpsink.Destination, mqttsink.Destination, redissink.Destination, sqssink.Destination, snssink.Destination, pubsubsink.Destination,
	sql.Destination, stdout.Destination,
}

// byScheme maps the scheme of a sink's URL to what it leads to.
var byScheme = func() map[string]sinks.Destination {
	found := make(map[string]sinks.Destination)
	for _, d := range all {
		for _, scheme := range d.Schemes {
			found[scheme] = d
		}
	}
	return found
}()

// of returns the kind that a sink's URL leads to.
func of(sink string) (sinks.Destination, error) {
	scheme, _, ok := strings.Cut(sink, ":")
	if !ok {
		var examples []string
		for _, d := range all {
			examples = append(examples, d.Example)
		}
		return sinks.Destination{}, fmt.Errorf("sink %q: must be a URL such as %s", human.Clip(sink, 60), strings.Join(examples, ", "))
	}
	d, ok := byScheme[scheme]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(byScheme)), ", ")
		return d, fmt.Errorf("sink %s: the scheme %q is unknown; known are %s", Redact(sink), scheme, known)
	}
	return d, nil
}

func target(s subscription.Subscription) sinks.Target {
	own := s.Settings
	return sinks.Target{URL: s.Sink, Options: own.Options, Timeout: time.Duration(own.Timeout), Lanes: own.Lanes, Batch: own.Batch, Subscription: s.Name,
		WorkerTTL: time.Duration(own.WorkerTTL), AttemptTimeout: time.Duration(own.AttemptTimeout), MaxAttempts: own.MaxAttempts}
}

// Open returns what connects to the destination of a subscription.
func Open(with sinks.Surroundings) func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
	return func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
		d, err := of(s.Sink)
		if err != nil {
			return nil, err
		}
		if err := d.Check(target(s), nil); err != nil {
			return nil, everywhere(err)
		}
		own := with
		own.Log = with.Log.With("subscription", s.Name)
		if with.MeterOf == nil {
			return d.Open(ctx, target(s), own)
		}
		own.Meter = with.MeterOf(d.Schemes[0])
		sink, err := d.Open(ctx, target(s), own)
		if err != nil {
			return nil, err
		}
		return sinks.Wrap(sink, own.Meter.Stage()), nil
	}
}

// everywhere marks what is wrong with a subscription on any machine. What this build alone does not know stays as it is.
func everywhere(err error) error {
	if _, unknown := errors.AsType[*sinks.UnknownError](err); unknown {
		return err
	}
	return relay.Unusable(err)
}

// Defaults fills in the settings that have another default for this kind of destination than for others.
func Defaults(s *subscription.Subscription) {
	d, err := of(s.Sink)
	own := &s.Settings
	if err != nil || len(own.BackoffSchedule) > 0 || own.BackoffInitial != 0 || own.BackoffMax != 0 {
		return
	}
	for _, wait := range d.RetrySchedule {
		own.BackoffSchedule = append(own.BackoffSchedule, subscription.Duration(wait))
	}
}

// ReplayNote is what whoever replays messages to a sink should know, empty for nothing.
func ReplayNote(sink string) string {
	d, err := of(sink)
	if err != nil {
		return ""
	}
	return d.ReplayNote
}

// CheckElsewhere is Check for a sink that another machine is going to open: it needs no files to be here.
func CheckElsewhere(s subscription.Subscription) error { return Check(s, nil) }

// Check says what is wrong with a subscription's sink and options, as far as that can be said without connecting: a sinks.OptionsError,
// or an error of the sink's URL. With secrets, what it refers to has to be here. Errors show no secret.
func Check(s subscription.Subscription, secrets *secret.Store) error {
	d, err := of(s.Sink)
	if err != nil {
		return err
	}
	if s.Settings.Shards != 0 && d.Name != sql.Destination.Name {
		return fmt.Errorf("shards %d: only subscriptions whose sink is sql: have shards", s.Settings.Shards)
	}
	if s.Settings.Expressions != (subscription.Expressions{}) && d.Name == sql.Destination.Name {
		return errors.New("filter, transform: a subscription with the sink sql: has neither, for no relay delivers its messages: use the sink pull: or topics of their own")
	}
	err = d.Check(target(s), secrets)
	if _, ok := errors.AsType[sinks.OptionsError](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("sink %s: %w", Redact(s.Sink), err)
}

// InFull tells all of what is wrong with a reference: for who has started this process.
func InFull(err error) error {
	hidden, ok := errors.AsType[*secret.HiddenError](err)
	if !ok {
		return err
	}
	full := errors.New(strings.Replace(err.Error(), hidden.Error(), hidden.Detail(), 1))
	if _, ok := errors.AsType[sinks.OptionsError](err); ok {
		return sinks.OptionsError{Err: full}
	}
	return full
}

// Examine returns a sinks.UnfitError where the destination answers and yet can never confirm a message.
func Examine(ctx context.Context, s subscription.Subscription) error {
	d, err := of(s.Sink)
	if err != nil || d.Examine == nil {
		return err
	}
	return d.Examine(ctx, target(s))
}

package destination

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	natssink "github.com/postrider/postrider/sinks/nats"
	"github.com/postrider/postrider/sinks/stdout"
	"github.com/postrider/postrider/sinks/webhook"
)

// kind is one kind of destination.
type kind struct {
	// open connects to nothing that it would have to wait for.
	open func(ctx context.Context, s subscription.Subscription, with Surroundings) (sinks.Sink, error)
	// check finds what is wrong without connecting. Where this machine is going to open it, secrets reads the files and variables
	// that it needs; else it is nil.
	check func(s subscription.Subscription, secrets *secret.Store) error
	// schedule is the kind's own retry schedule, nil if it has none.
	schedule func() []time.Duration
}

// Surroundings are what a sink may need of this process.
type Surroundings struct {
	Log     *slog.Logger  // for an operator
	Secrets *secret.Store // what subscriptions may refer to
	// CallbackURL makes the URLs of asynchronous webhooks, nil if they shall have none.
	CallbackURL func(subscription string, id, token int64) string
	Version     string // of this build, for the user agent
}

// kinds maps a sink URL's scheme to what it leads to.
var kinds = map[string]kind{
	"http":   {openWebhook, checkWebhook, webhook.RetrySchedule},
	"https":  {openWebhook, checkWebhook, webhook.RetrySchedule},
	"nats":   {openNATS, checkNATS, nil},
	"tls":    {openNATS, checkNATS, nil},
	"stdout": {openStdout, checkStdout, nil},
}

// Open returns what connects to the destination of a subscription.
func Open(with Surroundings) func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
	return func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
		k, err := kindOf(s.Sink)
		if err != nil {
			return nil, err
		}
		own := with
		own.Log = with.Log.With("subscription", s.Name)
		return k.open(ctx, s, own)
	}
}

// Defaults fills in the settings that have another default for this kind of sink than for others.
func Defaults(s *subscription.Subscription) {
	k, err := kindOf(s.Sink)
	own := &s.Settings
	if err != nil || k.schedule == nil || len(own.BackoffSchedule) > 0 || own.BackoffInitial != 0 || own.BackoffMax != 0 {
		return
	}
	for _, wait := range k.schedule() {
		own.BackoffSchedule = append(own.BackoffSchedule, subscription.Duration(wait))
	}
}

// OptionsError is what is wrong with the options, not with the sink's URL.
type OptionsError struct{ error }

// Unwrap returns the reason.
func (e OptionsError) Unwrap() error { return e.error }

// CheckElsewhere is Check for a sink that another machine is going to open: it needs no files to be here.
func CheckElsewhere(s subscription.Subscription) error { return Check(s, nil) }

// Check says what is wrong with a subscription's sink and options, as far as that can be said without connecting. With secrets, what it
// refers to has to be here. Errors show no secret.
func Check(s subscription.Subscription, secrets *secret.Store) error {
	k, err := kindOf(s.Sink)
	if err != nil {
		return err
	}
	err = k.check(s, secrets)
	if _, ok := errors.AsType[OptionsError](err); ok || err == nil {
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
	if _, ok := errors.AsType[OptionsError](err); ok {
		return OptionsError{full}
	}
	return full
}

// noOptions is for kinds whose URL says all.
func noOptions(s subscription.Subscription, kind string) error {
	if len(s.Settings.Options) == 0 || string(s.Settings.Options) == "{}" {
		return nil
	}
	return OptionsError{sinks.Unknown(fmt.Errorf("options: %s takes none", kind))}
}

// everywhere marks what is wrong with a subscription on any machine. What this build alone does not know stays as it is.
func everywhere(err error) error {
	if _, unknown := errors.AsType[*sinks.UnknownError](err); unknown || err == nil {
		return err
	}
	return relay.Unusable(err)
}

func kindOf(sink string) (kind, error) {
	known := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
	scheme, _, ok := strings.Cut(sink, ":")
	if !ok {
		return kind{}, fmt.Errorf("sink %q: must be a URL such as stdout:, nats://host:4222?stream=ORDERS or https://host/hook", human.Clip(sink, 60))
	}
	k, ok := kinds[scheme]
	if !ok {
		return kind{}, fmt.Errorf("sink %s: the scheme %q is unknown; known are %s", Redact(sink), scheme, known)
	}
	return k, nil
}

// IsNATS reports whether a sink leads to NATS, where replays meet the duplicate window.
func IsNATS(sink string) bool {
	scheme, _, _ := strings.Cut(sink, ":")
	return scheme == "nats" || scheme == "tls"
}

func webhookConfig(s subscription.Subscription, version string) (webhook.Config, error) {
	options, err := webhook.ParseOptions(s.Settings.Options)
	if err != nil {
		err = OptionsError{err}
	}
	return webhook.Config{
		URL:     s.Sink,
		Timeout: time.Duration(s.Settings.Timeout),
		Lanes:   s.Settings.Lanes,
		Version: version,
		Options: options,
	}, err
}

func openWebhook(_ context.Context, s subscription.Subscription, with Surroundings) (sinks.Sink, error) {
	config, err := webhookConfig(s, with.Version)
	if err == nil {
		err = config.Validate()
	}
	if err != nil {
		return nil, everywhere(err)
	}
	config.Log, config.Secrets, config.CallbackURL = with.Log, with.Secrets, with.CallbackURL
	if config.Options.Async && with.CallbackURL == nil {
		with.Log.Info("asynchronous deliveries carry no callback URL, as POSTRIDER_CALLBACK_URL is not set: they can be settled in SQL")
	}
	config.Receipt = func(r webhook.Receipt) {
		with.Log.Info("delivered", "message", r.MessageID, "attempt", r.Attempt, "status", r.Status, "content_type", r.ContentType, "answer", string(r.Body))
	}
	return asSink(webhook.New(config))
}

func checkWebhook(s subscription.Subscription, secrets *secret.Store) error {
	config, err := webhookConfig(s, "")
	if err != nil {
		return err
	}
	if secrets == nil {
		return config.Validate()
	}
	config.Secrets = secrets
	sink, err := webhook.New(config)
	if err != nil {
		return err
	}
	return sink.Close()
}

func openNATS(ctx context.Context, s subscription.Subscription, with Surroundings) (sinks.Sink, error) {
	if err := noOptions(s, "NATS"); err != nil {
		return nil, err
	}
	config, err := natssink.ParseURL(s.Sink)
	if err != nil {
		return nil, everywhere(err)
	}
	defaults, err := guard.New(guard.Options{})
	if err != nil {
		return nil, err
	}
	config.Control = defaults.Control
	config.Secrets = with.Secrets
	config.Lanes, config.Batch = s.Settings.Lanes, s.Settings.Batch
	config.AckTimeout = cmp.Or(config.AckTimeout, time.Duration(s.Settings.Timeout))
	return asSink(natssink.New(ctx, config))
}

func checkNATS(s subscription.Subscription, secrets *secret.Store) error {
	if err := noOptions(s, "NATS"); err != nil {
		return err
	}
	config, err := natssink.ParseURL(s.Sink)
	if err != nil || secrets == nil {
		return err
	}
	config.Secrets = secrets
	return config.CheckFiles()
}

// Examine returns a *natssink.StreamError where the destination answers and yet can never confirm a message.
func Examine(ctx context.Context, s subscription.Subscription) (err error) {
	sink, err := openNATS(ctx, s, Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	return sink.(*natssink.Sink).Examine(ctx)
}

func openStdout(_ context.Context, s subscription.Subscription, _ Surroundings) (sinks.Sink, error) {
	if err := noOptions(s, "stdout"); err != nil {
		return nil, err
	}
	return stdout.New(os.Stdout), nil
}

func checkStdout(s subscription.Subscription, _ *secret.Store) error {
	u, err := url.Parse(s.Sink)
	if err != nil || u.Opaque+u.Host+u.Path+u.RawQuery != "" {
		return errors.New("stdout takes nothing after the colon")
	}
	return noOptions(s, "stdout")
}

// asSink keeps a nil pointer from becoming a sink that is not nil.
func asSink[S sinks.Sink](s S, err error) (sinks.Sink, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

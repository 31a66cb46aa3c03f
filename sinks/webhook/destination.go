package webhook

import (
	"context"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is endpoints that take webhooks.
var Destination = sinks.Destination{
	Name:          "webhook",
	Schemes:       []string{"http", "https"},
	Example:       "https://host/hook",
	Options:       Options{},
	RetrySchedule: RetrySchedule(),
	Check:         check,
	Open:          openTarget,
}

func configOf(t sinks.Target) (Config, error) {
	options, err := ParseOptions(t.Options)
	return Config{URL: t.URL, Timeout: t.Timeout, Lanes: t.Lanes, Options: options}, err
}

func check(t sinks.Target, secrets *secret.Store) error {
	config, err := configOf(t)
	if err != nil {
		return err
	}
	if secrets == nil {
		return config.Validate()
	}
	config.Secrets = secrets
	sink, err := New(config)
	if err != nil {
		return err
	}
	return sink.Close()
}

func openTarget(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
	config, err := configOf(t)
	if err != nil {
		return nil, err
	}
	config.Version, config.Log, config.Secrets, config.CallbackURL, config.Meter = with.Version, with.Log, with.Secrets, with.CallbackURL, with.Meter
	if config.Options.Async && with.CallbackURL == nil {
		with.Log.Info("asynchronous deliveries carry no callback URL, as POSTRIDER_CALLBACK_URL is not set: they can be settled in SQL")
	}
	config.Receipt = func(r Receipt) {
		with.Log.Info("delivered", "message", r.MessageID, "attempt", r.Attempt, "status", r.Status, "content_type", r.ContentType, "answer", string(r.Body))
	}
	sink, err := New(config)
	if err != nil {
		return nil, err
	}
	return sink, nil
}

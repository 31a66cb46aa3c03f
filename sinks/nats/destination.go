package natssink

import (
	"cmp"
	"context"
	"errors"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is NATS: JetStream, or core NATS.
var Destination = sinks.Destination{
	Name:    "NATS",
	Schemes: []string{"nats", "tls"},
	Example: "nats://host:4222?stream=ORDERS",
	ReplayNote: "JetStream drops what it has stored within its duplicate window (2 minutes unless the stream says otherwise), so messages\n" +
		"delivered that recently are not stored again. Replay them later, or make the window shorter first.",
	Options: Options{},
	Check:   check,
	Open:    openTarget,
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	config, _, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	config.Secrets = secrets
	return config.CheckFiles()
}

func openTarget(ctx context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
	sink, err := newOf(ctx, t, with)
	if err != nil {
		return nil, err
	}
	return sink, nil
}

func newOf(ctx context.Context, t sinks.Target, with sinks.Surroundings) (*Sink, error) {
	config, guarded, err := parse(t)
	if err != nil {
		return nil, err
	}
	addresses, err := guard.New(guarded)
	if err != nil {
		return nil, err
	}
	config.Control, config.Secrets, config.Log = addresses.Control, with.Secrets, with.Log
	config.Lanes, config.Batch = t.Lanes, t.Batch
	config.AckTimeout = cmp.Or(config.AckTimeout, t.Timeout)
	return newSink(ctx, config, with.Meter)
}

func examine(ctx context.Context, t sinks.Target) (err error) {
	sink, err := newOf(ctx, t, sinks.Surroundings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	return sink.Examine(ctx)
}

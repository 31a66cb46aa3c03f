package kafkasink

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is Kafka, and what speaks its protocol.
var Destination = sinks.Destination{
	Name:    "Kafka",
	Schemes: []string{"kafka", "kafkas"},
	Example: "kafka://host:9092/orders",
	ReplayNote: "Kafka stores what is replayed once more, behind all that is there: consumers see it again, with the same ce_id, and after newer\n" +
		"messages of the same key.",
	Options: Options{},
	Check:   check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := open(t, with)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	_, err = c.identify(slog.New(slog.DiscardHandler), secrets)
	if err == nil && c.secure {
		_, err = (&dialer{secrets: secrets, tls: c.TLS}).config(c.brokers[0])
	}
	if err != nil {
		return sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return nil
}

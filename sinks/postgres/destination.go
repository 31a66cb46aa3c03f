package postgres

import (
	"context"
	"log/slog"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is a table or a function of another PostgreSQL database.
var Destination = sinks.Destination{
	Name:       "PostgreSQL",
	Schemes:    []string{"postgres", "postgresql"},
	Example:    "postgres://receiver@host/shop?table=public.events",
	Options:    Options{},
	ReplayNote: "What the inbox of the destination remembers, 14 days unless it was set otherwise, has no effect again.",
	Check:      check,
	Open:       open,
	Examine:    examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	d, err := newDialer(c, slog.New(slog.DiscardHandler), secrets)
	if err == nil {
		_, err = d.tls("any.example") // its files are the same for all hosts
	}
	return err
}

func open(ctx context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
	s, err := newSink(ctx, t, with)
	if err != nil {
		return nil, err
	}
	return s, nil
}

package redissink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is Redis, and what speaks its protocol and has streams.
var Destination = sinks.Destination{
	Name:       "Redis",
	Schemes:    []string{"redis", "rediss"},
	Example:    "redis://host:6379?stream=orders",
	Options:    Options{},
	ReplayNote: "Redis adds what is replayed once more, behind all that is there: consumers see it again, with the same message_id.",
	Check:      check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := newSink(t, with)
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
	d, err := newDialer(c, slog.New(slog.DiscardHandler), secrets)
	if err == nil && c.secure {
		_, err = c.TLS.Config("a.example", d.secrets)
	}
	return err
}

const examineTimeout = 10 * time.Second

// examine asks what the key holds, where there is one for all, and, if that may be asked, whether the user may add to it.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	client, err := s.ready(ctx)
	if err != nil {
		return unfit(outcomeOf(err))
	}
	key := s.Stream
	if key == "" {
		key = s.Prefix + "examined"
	}
	user, err := client.Do(ctx, client.B().Arbitrary("ACL", "WHOAMI").Build()).ToString()
	if err == nil {
		answer, err := client.Do(ctx, client.B().Arbitrary("ACL", "DRYRUN", user, "XADD").Keys(key).Args("*", "a", "b").Build()).ToString()
		if err == nil && answer != "OK" {
			return &sinks.UnfitError{Text: answer, Remedy: fmt.Sprintf("ACL SETUSER %s +xadd ~%s", user, key)}
		}
	}
	if s.Stream == "" {
		return nil
	}
	kind, err := client.Do(ctx, client.B().Arbitrary("TYPE").Keys(s.Stream).Build()).ToString()
	if err == nil && kind != "none" && kind != "stream" {
		return &sinks.UnfitError{Text: fmt.Sprintf("the key %q holds a %s", s.Stream, kind), Remedy: "choose another stream"}
	}
	return nil // what may not be asked is not known
}

// unfit makes what somebody has to change an UnfitError.
func unfit(outcome error) error {
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindMisconfigured {
		return outcome
	}
	return &sinks.UnfitError{Text: outcome.Error(), Remedy: "change it there, or in the subscription"}
}

package stdout

import (
	"context"
	"errors"
	"net/url"
	"os"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is this process's standard output.
var Destination = sinks.Destination{
	Name:    "stdout",
	Schemes: []string{"stdout"},
	Example: "stdout:",
	Check:   func(t sinks.Target, _ *secret.Store) error { return check(t) },
	Open: func(_ context.Context, t sinks.Target, _ sinks.Surroundings) (sinks.Sink, error) {
		if err := check(t); err != nil {
			return nil, err
		}
		return New(os.Stdout), nil
	},
}

func check(t sinks.Target) error {
	u, err := url.Parse(t.URL)
	if err != nil || u.Opaque+u.Host+u.Path+u.RawQuery != "" {
		return errors.New("stdout takes nothing after the colon")
	}
	return sinks.NoOptions(t, "stdout")
}

package pull

import (
	"context"
	"errors"
	"net/url"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// lanes is how many jobs of a subscription may be here at once, waiting or out, unless its settings say so.
const lanes = 4096

// Destination is the workers that ask this process for jobs.
var Destination = sinks.Destination{
	Name:    "pull",
	Schemes: []string{"pull"},
	Example: "pull:",
	Check:   func(t sinks.Target, _ *secret.Store) error { return check(t) },
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		if with.Workers == nil {
			return nil, errors.New("workers cannot ask this relay for jobs: POSTRIDER_API_ADDR is not set")
		}
		return with.Workers(t)
	},
}

func check(t sinks.Target) error {
	u, err := url.Parse(t.URL)
	if err != nil || u.Opaque+u.Host+u.Path+u.RawQuery+u.Fragment != "" {
		return errors.New("pull takes nothing after the colon: workers come for the jobs")
	}
	return sinks.NoOptions(t, "pull")
}

// Workers opens a subscription at the hub.
func (h *Hub) Workers(t sinks.Target) (sinks.Sink, error) {
	n := t.Lanes
	if n == 0 {
		n = lanes
	}
	return h.Open(t.Subscription, Setup{WorkerTTL: t.WorkerTTL, AttemptTimeout: t.AttemptTimeout, MaxAttempts: t.MaxAttempts}, n)
}

package torture

import (
	"context"
	"math/rand/v2"
	"time"
)

var relayFaults = []*Fault{
	{Name: "kill", About: "SIGKILL to a relay, then a new one", Hits: onRelay, Repeats: all,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			r := w.relays[rng.IntN(len(w.relays))]
			r.kill()
			pause(ctx, span(rng, 0, 500*time.Millisecond))
			return r.start()
		}},
	{Name: "stop", About: "SIGTERM to a relay, then a new one", Hits: onRelay,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			r := w.relays[rng.IntN(len(w.relays))]
			w.fail(r.stop())
			pause(ctx, span(rng, 0, 500*time.Millisecond))
			return r.start()
		}},
	{Name: "pause", About: "SIGSTOP to a relay for longer than its lease, then SIGCONT", Hits: onRelay, Repeats: all,
		Possible: func(c *Config) bool { return c.Relays > 1 },
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			r := w.relays[rng.IntN(len(w.relays))]
			r.pause()
			defer r.resume()
			pause(ctx, lease+span(rng, time.Second, 2*time.Second))
			return nil
		}},
}

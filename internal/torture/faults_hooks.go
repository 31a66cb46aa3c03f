package torture

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/internal/hooktest"
)

// victims may see repeats of what they took without saying so.
var victims = []string{"victim"}

var hookFaults = []*Fault{
	{Name: "http-500", About: "an endpoint answers 500", Hits: onHooks, Inject: misbehave(hooktest.Status(500))},
	{Name: "http-503", About: "an endpoint answers 503 with Retry-After: 1", Hits: onHooks,
		Inject: misbehave(hooktest.Status(503).With("Retry-After", "1"))},
	{Name: "http-hang", About: "an endpoint never answers", Hits: onHooks, Inject: misbehave(hooktest.Hang)},
	{Name: "http-cut", About: "an endpoint closes the connection in the middle of the request", Hits: onHooks,
		Inject: misbehave(hooktest.CutBefore)},
	{Name: "http-half", About: "an endpoint accepts and closes the connection in the middle of the answer", Hits: onHooks, Repeats: victims,
		Inject: misbehave(hooktest.HalfAnswer)},
	{Name: "http-mute", About: "an endpoint accepts and closes the connection without an answer", Hits: onHooks, Repeats: victims,
		Inject: misbehave(hooktest.CutAfter)},
	{Name: "http-slow", About: "an endpoint takes 300 ms for each answer", Hits: onHooks, Inject: misbehave(hooktest.Slow(300 * time.Millisecond))},
	{Name: "http-refuse", About: "a receiver refuses connections", Hits: onHooks, Repeats: victims,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			w.victim.Refuse()
			pause(ctx, span(rng, time.Second, 4*time.Second))
			return w.victim.Open()
		}},
}

// misbehave makes the victim's endpoint do something else for a while.
func misbehave(b hooktest.Behaviour) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		w.victim.Set("/victim", b)
		pause(ctx, span(rng, 500*time.Millisecond, 3*time.Second))
		w.victim.Set("/victim", hooktest.Accept)
		return nil
	}
}

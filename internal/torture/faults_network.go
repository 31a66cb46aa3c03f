package torture

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/internal/linktest"
)

// networkFaults come between the database and one relay, or all of them. Applications have other ways to it, and must not notice.
var networkFaults = []*Fault{
	{Name: "cut", About: "the network between relays and PostgreSQL is cut", Hits: onNetwork, Delays: true,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			n := w.some(rng)
			n.each((*linktest.Link).Cut)
			pause(ctx, span(rng, 100*time.Millisecond, lease+time.Second))
			return n.heal()
		}},
	{Name: "reset", About: "all connections between relays and PostgreSQL are reset, again and again", Hits: onNetwork,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			n := w.some(rng)
			for range 1 + rng.IntN(4) {
				n.each((*linktest.Link).Reset)
				pause(ctx, span(rng, 0, 300*time.Millisecond))
			}
			return nil
		}},
	{Name: "slow", About: "the network between relays and PostgreSQL is slow", Hits: onNetwork,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			n := w.some(rng)
			latency := span(rng, 10*time.Millisecond, 80*time.Millisecond)
			if err := n.slow(latency, latency/2, 100_000+rng.Int64N(900_000)); err != nil {
				return err
			}
			pause(ctx, span(rng, time.Second, 4*time.Second))
			return n.heal()
		}},
	{Name: "halfopen", About: "connections between relays and PostgreSQL stay, and no byte passes, in one direction or both",
		Hits: onNetwork, Delays: true,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			n := w.some(rng)
			way := []linktest.Direction{linktest.Both, linktest.ToServer, linktest.ToClient}[rng.IntN(3)]
			n.each(func(l *linktest.Link) { l.HalfOpen(way) })
			pause(ctx, span(rng, 500*time.Millisecond, 2*lease))
			return n.heal()
		}},
	{Name: "terminate", About: "all connections of relays are terminated", Hits: onNetwork, Inject: terminate("usename = 'relay'")},
	{Name: "publication", About: "the publication is dropped, and made again", Hits: onNetwork, Reorders: true,
		Possible: func(c *Config) bool { return c.Follow == "stream" }, Inject: dropPublication},
}

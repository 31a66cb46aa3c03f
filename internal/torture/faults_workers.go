package torture

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/linktest"
)

// pulledAlone may see repeats when a worker over HTTP cannot say what it has done. One in SQL never may.
var pulledAlone = []string{pulled}

var workerFaults = []*Fault{
	{Name: "worker-silent", About: "nothing that a worker says gets through, for longer than its jobs are its own", Hits: onWorkers, Repeats: pulledAlone,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			net := w.crew.some(rng)
			net.each(func(l *linktest.Link) { l.HalfOpen(linktest.ToServer) })
			pause(ctx, workerTTL+span(rng, 500*time.Millisecond, 2*time.Second))
			return net.heal()
		}},
	{Name: "worker-deaf", About: "no answer reaches a worker", Hits: onWorkers, Repeats: pulledAlone,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			net := w.crew.some(rng)
			net.each(func(l *linktest.Link) { l.HalfOpen(linktest.ToClient) })
			pause(ctx, span(rng, 200*time.Millisecond, 2*workerTTL))
			return net.heal()
		}},
	{Name: "worker-cut", About: "the connections of a worker are reset", Hits: onWorkers, Repeats: pulledAlone,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			net := w.crew.some(rng)
			net.each((*linktest.Link).Cut)
			pause(ctx, span(rng, 100*time.Millisecond, 2*workerTTL))
			return net.heal()
		}},
	{Name: "worker-slow", About: "workers take 100 ms for each job", Hits: onWorkers, Inject: whileSet(func(c *crew) *atomic.Bool { return &c.slow })},
	{Name: "worker-fails", About: "workers fail half of their jobs", Hits: onWorkers, Inject: whileSet(func(c *crew) *atomic.Bool { return &c.failing })},
	{Name: "worker-hangs", About: "a worker in SQL hangs in the middle of its transaction", Hits: onWorkers,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			w.crew.hang.Store(true)
			pause(ctx, span(rng, time.Second, sqlLimit))
			return nil
		}},
	{Name: "worker-killed", About: "the sessions of workers in SQL are ended", Hits: onWorkers,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			return w.db.try(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%torture.effects%' AND pid <> pg_backend_pid()")
		}},
}

// whileSet sets a flag of the workers for a while.
func whileSet(flag func(*crew) *atomic.Bool) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		flag(&w.crew).Store(true)
		pause(ctx, span(rng, 500*time.Millisecond, 2*time.Second))
		flag(&w.crew).Store(false)
		return nil
	}
}

// some returns the network of one worker.
func (c *crew) some(rng *rand.Rand) (net network) {
	worker := rng.IntN(len(c.links))
	for _, relay := range c.links {
		net = append(net, relay[worker])
	}
	return net
}

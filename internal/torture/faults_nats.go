package torture

import (
	"context"
	"math/rand/v2"
	"time"
)

// published may see repeats when the answer to a publication is lost. (The stream of `once` drops them.)
var published = []string{"events"}

var natsFaults = []*Fault{
	{Name: "nats-restart", About: "a NATS server is restarted", Hits: onNATS, Repeats: published,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			i := rng.IntN(w.NATSServers)
			w.nats.StopServer(i)
			pause(ctx, span(rng, 0, 2*time.Second))
			return w.nats.StartServer(ctx, i)
		}},
	{Name: "nats-leader", About: "the leader of a stream in a cluster of three is stopped for a while", Hits: onNATS, Repeats: published,
		Possible: inCluster,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			i, err := w.nats.StopLeader(ctx, w.streamOf("events").config.Name)
			if err != nil {
				return err
			}
			pause(ctx, span(rng, time.Second, 3*time.Second))
			return w.nats.StartServer(ctx, i)
		}},
	{Name: "nats-quorum", About: "two NATS servers of three are stopped for a while", Hits: onNATS, Repeats: published, Possible: inCluster,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			i := rng.IntN(3)
			w.nats.StopServer(i)
			w.nats.StopServer((i + 1) % 3)
			pause(ctx, span(rng, time.Second, 2*time.Second))
			if err := w.nats.StartServer(ctx, i); err != nil {
				return err
			}
			return w.nats.StartServer(ctx, (i+1)%3)
		}},
	{Name: "nats-delete", About: "a stream is deleted and made again", Hits: onNATS, Repeats: published,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			s := w.streamOf("events")
			if err := s.remove(ctx); err != nil {
				return err
			}
			pause(ctx, span(rng, 0, 2*time.Second))
			return s.create(ctx)
		}},
	{Name: "nats-full", About: "a stream is full, then has room again", Hits: onNATS, Repeats: published,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			s := w.streamOf("events")
			if err := s.limit(ctx, 1); err != nil {
				return err
			}
			pause(ctx, span(rng, 500*time.Millisecond, 3*time.Second))
			return s.limit(ctx, -1)
		}},
}

func inCluster(c *Config) bool { return c.NATSServers == 3 }

// streamOf returns the stream of a subscription.
func (w *world) streamOf(name string) *stream {
	for _, s := range w.subs {
		if s.Name == name {
			return s.stream
		}
	}
	return nil
}

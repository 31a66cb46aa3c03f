package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/brokertest"
)

// toRedis is the subscription's name, for faults that may repeat what it has delivered.
var toRedis = []string{"redis"}

var redisKind = &brokerKind{name: "redis", about: "a real Redis, which has on disk what it confirms", hits: onRedis,
	find: brokertest.FindRedis, start: startRedis,
	faults: []*Fault{
		{Name: "redis-kill", About: "SIGKILL to Redis, then it is started again", Repeats: toRedis,
			Inject: hitting(func(ctx context.Context, r *redis, rng *rand.Rand) error {
				r.server.Kill()
				pause(ctx, span(rng, 0, 1500*time.Millisecond))
				return r.server.Restart()
			})},
		{Name: "redis-oom", About: "Redis is out of memory, then has some again",
			Inject: hitting(func(ctx context.Context, r *redis, rng *rand.Rand) error {
				if err := r.set(ctx, "maxmemory", "1"); err != nil {
					return err
				}
				pause(ctx, span(rng, 300*time.Millisecond, 2*time.Second))
				return r.set(context.WithoutCancel(ctx), "maxmemory", "0")
			})},
		{Name: "redis-deaf", About: "what Redis says does not arrive: entries without an answer", Repeats: toRedis, Inject: deaf("redis")},
	}}

// redis is a server whose stream takes all messages.
type redis struct {
	server *brokertest.Server
	client rueidis.Client
	book   *book
	last   string // id of the last entry in the book
}

func startRedis(program string, w *world, b *book) (broker, error) {
	dir := filepath.Join(w.dir, "redis")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	server, err := brokertest.StartRedis(program, dir)
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		server.Kill()
		return nil, err
	}
	return &redis{server: server, client: client, book: b, last: "0-0"}, nil
}

func (r *redis) addr() string { return r.server.Addr() }

func (r *redis) sink(addr string) (url, options string) {
	return "redis://" + addr + "?stream=all", ""
}

func (r *redis) stop() error {
	r.client.Close()
	r.server.Kill()
	return nil
}

// set changes the configuration.
func (r *redis) set(ctx context.Context, name, value string) error {
	return poll(ctx, time.Minute, func() error {
		return r.client.Do(ctx, r.client.B().ConfigSet().ParameterValue().ParameterValue(name, value).Build()).Error()
	})
}

// page is how many entries are read at once.
const page = 5000

// catchUp reads the entries behind the last one. The time of each is in its id.
func (r *redis) catchUp(ctx context.Context) error {
	for {
		var entries []rueidis.XRangeEntry
		err := poll(ctx, time.Minute, func() (err error) {
			entries, err = r.client.Do(ctx, r.client.B().Xrange().Key("all").Start("("+r.last).End("+").Count(page).Build()).AsXRange()
			return err
		})
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			r.last = e.ID
			millis, err := strconv.ParseInt(strings.Split(e.ID, "-")[0], 10, 64)
			if err != nil {
				return fmt.Errorf("entry %s: %w", e.ID, err)
			}
			r.book.enter([]byte(e.FieldValues["payload"]), e.FieldValues["message_id"], time.UnixMilli(millis), "the stream of Redis")
		}
	}
}

package pull

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crew is workers that do what comes, in the order in which it comes, as long as they are not held up.
type crew struct {
	hub *Hub
	end context.CancelFunc
	out sync.WaitGroup

	mu       sync.Mutex
	received []sinktest.Received
	hung     bool
	held     map[string]bool
	kept     []Job // not settled
}

func newCrew(t *testing.T) *crew {
	c := &crew{hub: NewHub(func() bool { return true }, func(Lost) {}, slog.New(slog.DiscardHandler)), held: make(map[string]bool)}
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	c.out.Go(func() { c.work(ctx) })
	t.Cleanup(func() { end(); c.out.Wait(); c.hub.timer.Stop() })
	return c
}

func (c *crew) work(ctx context.Context) {
	by := Caller{Worker: "w", Incarnation: "1"}
	for ctx.Err() == nil {
		jobs, _ := c.hub.Take(ctx, by, []Want{{"conformance", 100}}, 10*time.Second)
		c.mu.Lock()
		c.kept = append(c.kept, jobs...)
		c.mu.Unlock()
		c.settle()
	}
}

// settle ends what may end.
func (c *crew) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var items []Item
	rest := c.kept[:0]
	for _, j := range c.kept {
		if c.hung || c.held[j.Key] {
			rest = append(rest, j)
			continue
		}
		items = append(items, Item{Held: Held{j.Subscription, j.ID, j.Token}, Outcome: Done})
		r := sinktest.Received{MessageID: j.MessageID, Topic: j.Topic, Key: j.Key, Payload: j.Payload, ContentType: "application/octet-stream",
			Headers: map[string]string{}, Attempt: j.Attempt, Subscription: j.Subscription}
		if j.JSON {
			r.ContentType = "application/json"
		}
		own, _ := j.HeaderMap()
		for name, value := range own {
			r.Headers[strings.ToLower(name)] = value
		}
		c.received = append(c.received, r)
	}
	c.kept = rest
	c.hub.Settle(Caller{Worker: "w", Incarnation: "1"}, items)
}

func (c *crew) change(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	c.settle()
}

// TestConforms runs the suite of all destinations, with workers that come for the jobs.
func TestConforms(t *testing.T) {
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		c := newCrew(t)
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				s, err := c.hub.Open("conformance", Setup{WorkerTTL: time.Minute, AttemptTimeout: time.Minute}, 16)
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: func() []sinktest.Received {
				c.mu.Lock()
				defer c.mu.Unlock()
				return append([]sinktest.Received(nil), c.received...)
			},
			Hang: func() { c.change(func() { c.hung = true }) },
			Up:   func() { c.change(func() { c.hung = false }) },
			Hold: func(key string) func() {
				c.change(func() { c.held[key] = true })
				return func() { c.change(func() { delete(c.held, key) }) }
			},
		}
	})
}

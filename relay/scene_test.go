package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// scene is a bench whose subscriptions deliver to actors, which a test directs message by message.
type scene struct {
	*bench
	mu     sync.Mutex
	actors map[string]*actor
}

func newScene(t *testing.T) *scene {
	t.Helper()
	t.Parallel()
	return &scene{bench: newBench(t), actors: make(map[string]*actor)}
}

// play runs a relay whose sinks are the actors.
func (s *scene) play(change ...func(*Config)) *running {
	s.t.Helper()
	return s.start(append([]func(*Config){func(c *Config) {
		c.Open = func(_ context.Context, sub subscription.Subscription) (sinks.Sink, error) {
			name, ok := strings.CutPrefix(sub.Sink, "actor:")
			if !ok {
				return nil, fmt.Errorf("sink %q: unknown scheme", sub.Sink)
			}
			return s.actor(name).hire(), nil
		}
	}}, change...)...)
}

func (s *scene) actor(name string) *actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.actors[name] == nil {
		s.actors[name] = newActor()
	}
	return s.actors[name]
}

// cast makes a subscription whose sink is the actor of the same name.
func (s *scene) cast(name, topics, settings string) *actor {
	s.t.Helper()
	s.Exec("SELECT postrider.subscribe($1, $2::text::text[], 'actor:' || $1, $3::text::jsonb)", name, topics, settings)
	return s.actor(name)
}

// bulk inserts n messages in one transaction, their keys (if keys > 0) taking turns, and returns their ids.
func (s *scene) bulk(topic string, n, keys int) []int64 {
	s.t.Helper()
	rows, err := s.App.Query(s.t.Context(), `INSERT INTO postrider.outbox (topic, key, payload)
		SELECT $1, CASE WHEN $3 > 0 THEN 'key-' || g % $3 END, to_jsonb(g) FROM generate_series(1, $2::int) g RETURNING id`, topic, n, keys)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	ids := make([]int64, 0, n)
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if rows.Err() != nil {
		s.t.Fatal(rows.Err())
	}
	return ids
}

// status returns what the view shows for a message and a subscription, "" if nothing.
func (s *scene) status(name string, id int64) string {
	s.t.Helper()
	return scalar[string](s.bench, `SELECT coalesce((SELECT status FROM postrider.deliveries WHERE subscription = $1 AND id = $2), '')`, name, id)
}

// shows waits until the view shows the status for the messages.
func (s *scene) shows(name, status string, ids ...int64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d messages of %s are shown as %s", len(ids), name, status), func() bool {
		return scalar[int](s.bench, `SELECT count(*) FROM postrider.deliveries WHERE subscription = $1 AND status = $2 AND id = ANY ($3)`,
			name, status, ids) == len(ids)
	})
}

// settledAll waits until everything that the subscription wants was delivered and is shown so, with nothing left parked.
func (s *scene) settledAll(name string) {
	s.t.Helper()
	eventually(s.t, name+" has no message that is not delivered", func() bool {
		return scalar[int](s.bench, `SELECT count(*) FROM postrider.deliveries WHERE subscription = $1 AND status <> 'delivered'`, name) == 0
	})
}

func (s *scene) parkedIn(name string, states ...string) int {
	s.t.Helper()
	return scalar[int](s.bench, `SELECT count(*) FROM postrider.parked WHERE subscription = $1 AND state = ANY ($2)`, name, states)
}

// crash voids everything that relays have in memory, as a crash of the server does.
func (s *scene) crash() { s.Exec("DELETE FROM postrider.relays") }

var errScene = errors.New("the actor refuses")

// failing answers with outcome to the first n attempts at messages of the topic, and accepts the rest.
func failing(topic string, n int, outcome error) func(context.Context, sinks.Delivery) error {
	return func(_ context.Context, d sinks.Delivery) error {
		if d.Topic == topic && d.Attempt <= n {
			return outcome
		}
		return nil
	}
}

// hanging makes messages of the topic wait until let is closed.
func hanging(topic string, let <-chan struct{}) func(context.Context, sinks.Delivery) error {
	return func(ctx context.Context, d sinks.Delivery) error {
		if d.Topic != topic {
			return nil
		}
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
		s.actors[name] = &actor{limits: sinks.Limits{Lanes: 4, Batch: 64}}
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

// attempt is one message that was handed to an actor, and what it answered.
type attempt struct {
	sinks.Delivery
	err error
	at  time.Time
	run int // which opening of the sink it came through
}

// actor is a destination in memory. It accepts everything unless it is told otherwise.
type actor struct {
	limits sinks.Limits

	mu       sync.Mutex
	script   func(ctx context.Context, d sinks.Delivery) error
	attempts []attempt
	largest  int    // batch
	fault    string // in how the relay used it
	busy     int
	busiest  int
	runs     int
	accepts  int
}

// engagement is an actor as one run of a subscription's deliveries has opened it.
type engagement struct {
	*actor
	run int
}

var _ sinks.Sink = engagement{}

func (a *actor) hire() sinks.Sink {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs++
	return engagement{a, a.runs}
}

// Deliver implements sinks.Sink.
func (a engagement) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	keys := make(map[string]bool)
	a.mu.Lock()
	script := a.script
	a.busy++
	a.largest, a.busiest = max(a.largest, len(batch)), max(a.busiest, a.busy)
	for _, d := range batch {
		if d.Key != "" && keys[d.Key] {
			a.fault = fmt.Sprintf("a batch holds key %s twice", d.Key)
		}
		keys[d.Key] = true
	}
	a.mu.Unlock()
	for i, d := range batch {
		at := time.Now()
		if script != nil {
			outcomes[i] = script(ctx, d)
		}
		a.mu.Lock()
		a.attempts = append(a.attempts, attempt{Delivery: d, err: outcomes[i], at: at, run: a.run})
		if outcomes[i] == nil {
			a.accepts++
		}
		a.mu.Unlock()
	}
	a.mu.Lock()
	a.busy--
	a.mu.Unlock()
}

// Limits implements sinks.Sink.
func (a *actor) Limits() sinks.Limits { return a.limits }

// Close implements sinks.Sink.
func (a *actor) Close() error { return nil }

// plays replaces what the actor answers. The function may be called by several goroutines at once.
func (a *actor) plays(script func(ctx context.Context, d sinks.Delivery) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script = script
}

// all returns every attempt in the order in which it ended.
func (a *actor) all() []attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.attempts)
}

// of returns the attempts at one message.
func (a *actor) of(id int64) (of []attempt) {
	for _, x := range a.all() {
		if x.ID == id {
			of = append(of, x)
		}
	}
	return of
}

// accepted returns the ids of accepted messages in order, of one key or of all ("*").
func (a *actor) accepted(key string) []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := make([]int64, 0, len(a.attempts))
	for _, x := range a.attempts {
		if x.err == nil && (key == "*" || x.Key == key) {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// got waits until each of the messages was accepted.
func (a *actor) got(t *testing.T, ids []int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages are accepted", len(ids)), func() bool { return a.count() >= len(ids) && len(a.lacks(ids)) == 0 })
}

func (a *actor) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accepts
}

func (a *actor) lacks(ids []int64) (missing []int64) {
	have := make(map[int64]bool)
	for _, id := range a.accepted("*") {
		have[id] = true
	}
	for _, id := range ids {
		if !have[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// again counts messages that were accepted more than once.
func (a *actor) again() (n int) {
	seen := make(map[int64]bool)
	for _, id := range a.accepted("*") {
		if seen[id] {
			n++
		}
		seen[id] = true
	}
	return n
}

// exactly checks that the messages, and no others, were accepted once each.
func (a *actor) exactly(t *testing.T, ids []int64) {
	t.Helper()
	if missing := a.lacks(ids); len(missing) > 0 {
		t.Errorf("%d messages were not delivered, such as %d", len(missing), missing[0])
	}
	if n := a.again(); n > 0 {
		t.Errorf("%d messages were delivered twice", n)
	}
	if n := len(a.accepted("*")) - a.again(); n != len(ids) {
		t.Errorf("%d messages were delivered, want %d", n, len(ids))
	}
	a.wellUsed(t)
}

// wellUsed checks how the relay used the sink.
func (a *actor) wellUsed(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault != "" {
		t.Error(a.fault)
	}
}

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

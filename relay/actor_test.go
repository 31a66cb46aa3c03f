package relay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

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
	until    chan struct{} // if set, batches wait until it is closed
	attempts []attempt
	largest  int    // batch
	fault    string // in how the relay used it
	busy     int
	busiest  int
	runs     int
	accepts  int
	calls    int
}

// engagement is an actor as one run of a subscription's deliveries has opened it.
type engagement struct {
	*actor
	run int
}

var _ sinks.Sink = engagement{}

func newActor() *actor { return &actor{limits: sinks.Limits{Lanes: 4, Batch: 64}} }

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
	script, until := a.script, a.until
	a.calls++
	a.busy++
	a.largest, a.busiest = max(a.largest, len(batch)), max(a.busiest, a.busy)
	for _, d := range batch {
		if d.Key != "" && keys[d.Key] {
			a.fault = fmt.Sprintf("a batch holds key %s twice", d.Key)
		}
		keys[d.Key] = true
	}
	a.mu.Unlock()
	var gaveUp error
	if until != nil {
		select {
		case <-until:
		case <-ctx.Done():
			gaveUp = ctx.Err()
		}
	}
	for i, d := range batch {
		at := time.Now()
		if outcomes[i] = gaveUp; gaveUp == nil && script != nil {
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

// answer is plays for a function that wants to be called by one at a time; nil accepts everything.
func (a *actor) answer(f func(sinks.Delivery) error) {
	if f == nil {
		a.plays(nil)
		return
	}
	var one sync.Mutex
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		one.Lock()
		defer one.Unlock()
		return f(d)
	})
}

// hold makes batches that begin from now on wait until the channel is closed; nil: no longer.
func (a *actor) hold(until chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.until = until
}

// rows returns the ids of accepted messages in the order of delivery.
func (a *actor) rows() []int64 { return a.accepted("*") }

// deliveries returns those that were accepted.
func (a *actor) deliveries() (list []sinks.Delivery) {
	for _, x := range a.all() {
		if x.err == nil {
			list = append(list, x.Delivery)
		}
	}
	return list
}

// payloads returns the payloads in the order of delivery.
func (a *actor) payloads() (texts []string) {
	for _, d := range a.deliveries() {
		texts = append(texts, string(d.Payload))
	}
	return texts
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
	eventually(t, fmt.Sprintf("%d messages are accepted", len(ids)), func() bool { return a.count() >= len(ids) && len(a.missing(ids)) == 0 })
}

func (a *actor) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accepts
}

// missing returns which of the messages were not accepted.
func (a *actor) missing(ids []int64) (missing []int64) {
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
	if missing := a.missing(ids); len(missing) > 0 {
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

// swap is two messages of one key of which the later was delivered first.
type swap struct {
	key         string
	early, late int64
}

// swaps looks at the first delivery of each message.
func (a *actor) swaps() (swaps []swap) {
	seen := make(map[int64]bool)
	last := make(map[string]int64)
	for _, d := range a.deliveries() {
		if seen[d.ID] || d.Key == "" {
			continue
		}
		seen[d.ID] = true
		if d.ID < last[d.Key] {
			swaps = append(swaps, swap{d.Key, last[d.Key], d.ID})
		}
		last[d.Key] = max(last[d.Key], d.ID)
	}
	return swaps
}

// distinct counts the messages that were delivered at least once.
func (a *actor) distinct() int {
	ids := make(map[int64]bool)
	for _, id := range a.rows() {
		ids[id] = true
	}
	return len(ids)
}

// arrives waits until a subscription has got the messages, exactly those.
func (a *actor) arrives(t *testing.T, ids []int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages arrive", len(ids)), func() bool { return a.count() >= len(ids) && len(a.missing(ids)) == 0 })
	if got := a.rows(); len(got) != len(ids) {
		t.Errorf("%d deliveries of %d messages", len(got), len(ids))
	}
}

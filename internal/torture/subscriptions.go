package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/outbox/topic"
)

// subscription is one that every round has.
type subscription struct {
	Expectation
	topics   []string
	settings string
	hook     string  // path of the HTTP endpoint, or
	stream   *stream // where it publishes to
	sink     string  // or what workers come for, or another server takes
	victim   bool    // its destination is the one that fails
	book     *book
}

// quick makes retries come soon, and keeps few connections.
const quick = `"backoff_initial": "50ms", "backoff_max": "500ms", "timeout": "2s", "lanes": 8`

// patient is for work that may fail as often as it likes.
const patient = `"backoff_initial": "50ms", "backoff_max": "500ms", "max_attempts": 1000`

// requestLasts is longer than a request may be under way that its relay has given up.
const requestLasts = 3 * time.Second

// work are the topics of most messages.
var work = []string{"orders.>", "users.*", "audit.login.>", "strict.>", "bulk.>"}

// newSubscriptions returns the subscriptions of a round: to streams and to endpoints, each kind of ordering, each answer to
// a dead letter, and one whose destination is the victim of the faults; if there are workers, one for each kind of them; and those around jobs.
func newSubscriptions(replicas int, workers, jobs, inbox bool) []*subscription {
	list := []*subscription{
		{Expectation: Expectation{Name: "events"}, topics: work, stream: &stream{config: jetstream.StreamConfig{Name: "EVENTS", Duplicates: shortWindow}}},
		{Expectation: Expectation{Name: "once", Once: true}, topics: []string{"orders.*"}, stream: &stream{config: jetstream.StreamConfig{Name: "ONCE"}}},
		{Expectation: Expectation{Name: "hooks"}, topics: []string{"orders.created", "users.>"}, hook: "/hooks", settings: quick},
		{Expectation: Expectation{Name: "victim", Late: requestLasts}, topics: work[:4], hook: "/victim", victim: true, settings: quick + `, "max_attempts": 1000`},
		{Expectation: Expectation{Name: "loose", Unordered: true, Late: requestLasts}, topics: []string{"audit.>"}, hook: "/loose", settings: quick + `, "ordering": "none"`},
		{Expectation: Expectation{Name: "strict"}, topics: []string{"strict.*"}, hook: "/strict", settings: quick + `, "ordering": "strict"`},
		{Expectation: Expectation{Name: "skips"}, topics: []string{"poison.>"}, hook: "/skips", settings: quick + `, "max_attempts": 3`},
		{Expectation: Expectation{Name: "holds", Holds: true}, topics: []string{"poison.>"}, hook: "/holds", settings: quick + `, "max_attempts": 3, "on_dead": "hold"`},
	}
	if workers {
		list = append(list, &subscription{Expectation: Expectation{Name: pulled, Late: 3 * workerTTL}, topics: append(slices.Clone(work[:4]), "poison.>"), sink: "pull:", settings: patient + `, "keep_attempts": "all", "worker_ttl": "` + workerTTL.String() + `"`},
			&subscription{Expectation: Expectation{Name: taken, Once: true}, topics: append(slices.Clone(work[:4]), "classed.>", "poison.>"), sink: "sql:", settings: patient + `, "shards": 4, "priorities": true`})
	}
	if jobs {
		// Events are written from when somebody wants them.
		list = append([]*subscription{{Expectation: Expectation{Name: alerts, Logged: true}, topics: []string{"$postrider.>"}, hook: "/" + alerts, settings: quick + `, "max_attempts": 2`}}, list...)
		list = append(list, &subscription{Expectation: Expectation{Name: ticks, Logged: true}, topics: []string{"tick.>"}, hook: "/" + ticks, settings: quick},
			&subscription{Expectation: Expectation{Name: effects, Logged: true, Late: requestLasts}, topics: []string{"effect.>"}, hook: "/" + effects, settings: quick},
			&subscription{Expectation: Expectation{Name: "urgent"}, topics: []string{"classed.>"}, hook: "/urgent", settings: quick + `, "priorities": true`})
	}
	if inbox {
		list = append(list, copies(work[:4]))
	}
	for _, s := range list {
		s.book = newBook()
		s.matching()
		if s.stream != nil {
			s.stream.book = s.book
			s.stream.config.Replicas = replicas
			s.stream.config.Subjects = []string{s.Name + ".>"}
		}
	}
	return list
}

// matching has it expect what its topics say.
func (s *subscription) matching() *subscription {
	patterns, err := topic.NewMatcher(s.topics)
	if err != nil {
		panic(err) // they are written here
	}
	s.Matches = func(m Message) bool { return patterns.Match(m.Topic) }
	return s
}

// subscribe creates the subscriptions.
func (w *world) subscribe(ctx context.Context) error {
	for _, s := range w.subs {
		sink := w.hooks.URL(s.hook)
		switch {
		case s.Name == copied:
			sink = w.warehouse.url()
		case s.sink != "":
			sink = s.sink
		case s.victim:
			sink = w.victim.URL(s.hook)
		case s.stream != nil:
			sink = fmt.Sprintf("%s?stream=%s&prefix=%s.", w.nats.URL(), s.stream.config.Name, s.Name)
		}
		err := w.db.try(ctx, "SELECT postrider.subscribe($1, $2, $3, $4)", s.Name, s.topics, sink, "{"+strings.TrimPrefix(s.settings, ", ")+"}")
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", s.Name, err)
		}
	}
	return nil
}

package torture

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/linktest"
)

// brokerKind is a kind of destination that is a server of its own. A round has some of them, as the seed picks; a subscription that
// has its name delivers to it, through a network of its own, and faults of its own befall it.
type brokerKind struct {
	name   string
	about  string // what stands for it
	hits   target
	find   func() (program string, err error) // an error: this machine has none
	start  func(program string, w *world, b *book) (broker, error)
	faults []*Fault
	// once says that what is sent again is there once, unordered that it keeps no order.
	once, unordered bool
}

// expects is what its subscription has to get.
func (k *brokerKind) expects() Expectation {
	return Expectation{Name: k.name, Once: k.once, Unordered: k.unordered}
}

// broker is one that runs.
type broker interface {
	// addr is where it listens; nothing, if it has networks of its own.
	addr() string
	// sink is the URL of the subscription, whose network is reached at this address, and a JSON object of options, or nothing.
	sink(addr string) (url, options string)
	// catchUp enters into the book what has arrived and is not there yet.
	catchUp(ctx context.Context) error
	// stop ends it.
	stop() error
}

// brokerKinds are all of them.
var brokerKinds = []*brokerKind{redisKind, rabbitKind, kafkaKind, mosquittoKind, sqsKind, snsKind, pubSubKind}

// brokersAtOnce is how many of them a round has unless they are named: none takes much, all of them together would.
const brokersAtOnce = 2

// answered is how long brokers have for an answer. One that comes later, on a machine that is busy, would be a repeat without a fault; all faults
// are shorter.
const answered = 30 * time.Second

// Destinations lists the names of those that not every round has.
func Destinations() (names []string) {
	for _, k := range brokerKinds {
		names = append(names, k.name)
	}
	return names
}

// brokerFaults are those of all kinds: each needs a round that has its destination.
var brokerFaults = faultsOf(brokerKinds)

func faultsOf(kinds []*brokerKind) (list []*Fault) {
	for _, k := range kinds {
		for _, f := range k.faults {
			f.Hits, f.Possible = k.hits, func(c *Config) bool { return slices.Contains(c.Destinations, k.name) }
			list = append(list, f)
		}
	}
	return list
}

// drawDestinations picks some, unless they are named, or follow from the faults that are.
func (c *Config) drawDestinations(rng *rand.Rand) {
	drawn, free := rng.Perm(len(brokerKinds))[:min(brokersAtOnce, len(brokerKinds))], c.Faults == nil && c.Destinations == nil
	for i, k := range brokerKinds {
		hit := slices.ContainsFunc(k.faults, func(f *Fault) bool { return slices.Contains(c.Faults, f.Name) })
		named := slices.Contains(c.Destinations, k.name)
		if named || hit || free && slices.Contains(drawn, i) {
			c.Destinations = append(slices.DeleteFunc(c.Destinations, func(name string) bool { return name == k.name }), k.name)
		}
	}
}

// brokers are those of a round.
type brokers struct {
	running map[string]broker
	links   map[string]*linktest.Link
	leftOut []string // those that the round was to have, and why it has not
}

// startBrokers starts those that the round is to have. What this machine has not is left out, and the report says so.
func (w *world) startBrokers(context.Context) error { return w.startBrokersOf(brokerKinds) }

func (w *world) startBrokersOf(kinds []*brokerKind) error {
	w.brokers = brokers{running: make(map[string]broker), links: make(map[string]*linktest.Link)}
	var there []string
	for _, k := range kinds {
		if !slices.Contains(w.Destinations, k.name) {
			continue
		}
		program, err := k.find()
		if err != nil {
			w.brokers.leftOut = append(w.brokers.leftOut, fmt.Sprintf("%s: %v", k.name, err))
			w.say("LEFT OUT, %s: %v", k.name, err)
			continue
		}
		there = append(there, k.name)
		if err := w.startBroker(k, program); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	w.Destinations = there
	return nil
}

func (w *world) startBroker(k *brokerKind, program string) error {
	s := &subscription{Expectation: k.expects(), topics: work[:4], settings: patient + `, "timeout": "` + answered.String() + `"`, book: newBook()}
	one, err := k.start(program, w, s.book)
	if err != nil {
		return err
	}
	w.undo = append(w.undo, one.stop)
	addr := one.addr()
	if addr != "" {
		link, err := linktest.Start(addr)
		if err != nil {
			return err
		}
		w.undo = append(w.undo, func() error { link.Stop(); return nil })
		w.brokers.links[k.name], addr = link, link.Addr()
	}
	url, options := one.sink(addr)
	if options != "" {
		s.settings += `, "options": ` + options
	}
	s.sink, w.brokers.running[k.name] = url, one
	w.subs = append(w.subs, s.matching())
	return nil
}

// hitting is a fault of one kind of broker.
func hitting[B broker](do func(ctx context.Context, b B, rng *rand.Rand) error) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		for _, one := range w.brokers.running {
			if b, ok := one.(B); ok {
				return do(ctx, b, rng)
			}
		}
		return fmt.Errorf("the round has none: %v", slices.Collect(maps.Keys(w.brokers.running)))
	}
}

// deaf lets nothing pass that a broker says for a while, and then nothing at all: what has been on its way is lost.
func deaf(name string) func(context.Context, *world, *rand.Rand) error {
	return whileHalfOpen(linktest.ToClient, func(w *world) *linktest.Link { return w.brokers.links[name] })
}

// describeDestinations says for the report which ran, and what stood for them.
func describeDestinations(names, leftOut []string) string {
	var b strings.Builder
	for _, k := range brokerKinds {
		if slices.Contains(names, k.name) {
			fmt.Fprintf(&b, "Among the destinations was %s: %s.\n", k.name, k.about)
		}
	}
	return b.String() + sayLeftOut("", leftOut)
}

// sayLeftOut says of what was left out that it was.
func sayLeftOut(before string, leftOut []string) string {
	if len(leftOut) == 0 {
		return ""
	}
	return before + "LEFT OUT, AND NOT TESTED: " + strings.Join(leftOut, "; ") + ".\n"
}

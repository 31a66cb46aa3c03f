package torture

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one way to break things. It mends what it broke before it returns.
type Fault struct {
	Name string
	// About says what is done, for the table at the end.
	About string
	// Hits is what the fault works on. Of each target one fault is at work at a time; faults on different targets mix.
	Hits target
	// Possible reports whether the round has what the fault needs. nil: always.
	Possible func(*Config) bool
	// Inject does the harm and undoes it. What it returns is a failure of the checker, not of the product.
	Inject func(ctx context.Context, w *world, rng *rand.Rand) error
	// Repeats names the subscriptions that may see deliveries again because of it; "*": all.
	Repeats []string
	// Replays says that what they see again may be of any time before.
	Replays bool
	// Reorders says that keys may be out of order while it lasts.
	Reorders bool
	// Delays says that progress cannot be saved while it lasts: if a relay stops, or another one takes over, deliveries are repeated.
	Delays bool
	// Unanswered names the subscriptions whose deliveries may have no answer while it lasts: likewise.
	Unanswered []string
	// Once says that it can be injected only once in a round.
	Once bool
}

// target is what a fault hits.
type target string

const (
	onRelay       target = "relay"
	onDatabase    target = "database" // the only one that applications may notice
	onNetwork     target = "network"  // between relays and the database
	onNATS        target = "NATS"
	onHooks       target = "HTTP"
	onApplication target = "application"
	onWorkers     target = "workers"
	onSchedules   target = "schedules"
	onOperations  target = "operations"
	onPriorities  target = "priorities"
	onWarehouse   target = "inbox"
	onRedis       target = "Redis"
	onRabbit      target = "RabbitMQ"
	onKafka       target = "Kafka"
	onMosquitto   target = "Mosquitto"
	onSQS         target = "SQS"
	onSNS         target = "SNS"
	onPubSub      target = "PubSub"
)

var all = []string{"*"}

// faults returns every fault there is.
func faults() []*Fault {
	return slices.Concat(relayFaults, databaseFaults, networkFaults, natsFaults, hookFaults, workerFaults, applicationFaults, transactionFaults, scheduleFaults, operationFaults, warehouseFaults, brokerFaults)
}

// FaultNames lists the names of all faults.
func FaultNames() (names []string) {
	for _, f := range faults() {
		names = append(names, f.Name)
	}
	return names
}

func faultNamed(name string) *Fault {
	for _, f := range faults() {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// chosen returns the faults of a round.
func (c *Config) chosen() (list []*Fault) {
	for _, f := range faults() {
		if (c.Faults == nil || slices.Contains(c.Faults, f.Name)) && (f.Possible == nil || f.Possible(c)) {
			list = append(list, f)
		}
	}
	return list
}

// span picks a duration between two.
func span(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}

// Package bridge has the destinations beside JetStream and webhooks: what serves each, how Postrider is told of it, and the loop around its
// client library that Postrider is measured beside.
//
// A loop publishes with the concurrency that Postrider's sink has by default: as many batches at once, as long, and each waits for the
// destination's confirms. It does not retry, does not remember, and knows nothing of keys.
package bridge

import (
	"context"
	"fmt"
	"slices"

	"github.com/postrider/postrider/bench/system"
)

// Kind is a kind of destination.
type Kind struct {
	// Name is that of Postrider's sink.
	Name string
	// Label is what people call it.
	Label string
	// Served says what serves it here, and how far what is confirmed is stored.
	Served string
	// Heard says what an arrival is.
	Heard string

	start func(ctx context.Context, dir string) (Server, error)
	sink  func(at string) Sink
	loop  func(ctx context.Context, o order) (*batches, error)
}

// Sink is how Postrider is told of a destination.
type Sink struct {
	URL     string
	Options map[string]any
	Env     []string // of the relay's process
}

// kinds has each once.
var kinds = []Kind{
	{Name: "redis", Label: "a Redis stream",
		Served: "redis-server with an append-only file, which is synced each second", Heard: "the consumer has read the entry",
		start: startRedis, sink: redisSink, loop: redisLoop},
	{Name: "kafka", Label: "Kafka",
		Served: "kfake, which is no broker: it keeps all in memory, in a process of its own", Heard: "the server is asked to store the message",
		start: startKafka, sink: kafkaSink, loop: kafkaLoop},
	{Name: "amqp", Label: "RabbitMQ",
		Served: "RabbitMQ with a durable classic queue: persistent messages are confirmed once they are on disk", Heard: "the consumer has the message, which is not on disk then",
		start: startRabbit, sink: rabbitSink, loop: rabbitLoop},
	{Name: "mqtt", Label: "MQTT",
		Served: "mosquitto with one subscriber, at QoS 0; messages come at QoS 1", Heard: "the subscriber has the message",
		start: startMosquitto, sink: mosquittoSink, loop: mosquittoLoop},
	{Name: "postgres", Label: "another PostgreSQL",
		Served: "a second PostgreSQL with the settings of the first", Heard: "the time that the destination gives the commit, before that is on disk",
		start: startPostgres, sink: postgresSink, loop: postgresLoop},
	{Name: "sqs", Label: "Amazon SQS",
		Served: "the server of the sink's tests, which is not Amazon's: it checks signatures and keeps nothing", Heard: "the server has taken the message",
		start: startAmazon, sink: sqsSink, loop: sqsLoop},
	{Name: "sns", Label: "Amazon SNS",
		Served: "the server of the sink's tests, which is not Amazon's: it checks signatures and keeps nothing", Heard: "the server has taken the message",
		start: startAmazon, sink: snsSink, loop: snsLoop},
	{Name: "pubsub", Label: "Google Pub/Sub",
		Served: "pstest, which is not Google's service: it keeps all in memory, in a process of its own", Heard: "the server is asked to store the message",
		start: startPubsub, sink: pubsubSink, loop: pubsubLoop},
}

// All returns the kinds.
func All() []Kind { return slices.Clone(kinds) }

// of returns a kind by its name.
func of(name string) (*Kind, error) {
	for i := range kinds {
		if kinds[i].Name == name {
			return &kinds[i], nil
		}
	}
	return nil, fmt.Errorf("there is no destination of the kind %q", name)
}

// SinkFor is how Postrider is told of a destination.
func SinkFor(to system.Bridge) (Sink, error) {
	k, err := of(to.Kind)
	if err != nil {
		return Sink{}, err
	}
	return k.sink(to.Address), nil
}

// Start starts a destination, whose files and logs go to dir.
func (k *Kind) Start(ctx context.Context, dir string) (Server, error) {
	s, err := k.start(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", k.Label, err)
	}
	return s, nil
}

// Server is a destination that runs.
type Server interface {
	// Fresh empties it, and returns its address, which may be another one than before.
	Fresh(ctx context.Context) (address string, err error)
	// PIDs are its processes, with their children.
	PIDs() []int
	// Count is the number of messages that it has taken.
	Count(ctx context.Context) (int64, error)
	// Listen has it take down when messages arrive, until Fresh or Stop.
	Listen(ctx context.Context) error
	// Arrived is the number of messages that have arrived since Listen, and Times has when, by n, in nanoseconds since 1970; 0: not yet.
	Arrived(ctx context.Context) (int64, error)
	Times(ctx context.Context) ([]int64, error)
	// Stop ends it.
	Stop() error
}

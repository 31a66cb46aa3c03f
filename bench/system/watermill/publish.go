package watermill

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/postrider/postrider/bench/system"
)

// publishers are those to destinations of other kinds, by the kind's name.
var publishers = map[string]func(address string, s settings) (message.Publisher, error){
	"kafka": toKafka,
	"amqp":  toAMQP,
}

// publisherTo makes the publisher that the forwarder hands messages to.
func publisherTo(to system.Destination, s settings) (message.Publisher, error) {
	if to.NATS != "" {
		return nats.NewPublisher(nats.PublisherConfig{URL: to.NATS, JetStream: nats.JetStreamConfig{TrackMsgId: true}}, nil)
	}
	f := publishers[to.Bridge.Kind]
	if f == nil {
		return nil, fmt.Errorf("there is no publisher to %+v", to)
	}
	return f(to.Bridge.Address, s)
}

func toKafka(address string, _ settings) (message.Publisher, error) {
	return kafka.NewPublisher(kafka.PublisherConfig{Brokers: []string{address}, Marshaler: kafka.DefaultMarshaler{}}, nil)
}

// toAMQP publishes to the exchange, which is durable here, and waits for confirms, as all that is measured does.
func toAMQP(address string, s settings) (message.Publisher, error) {
	const exchange = "bench"
	c := amqp.NewDurableTopicConfig("amqp://guest:guest@"+address+"/", exchange, "")
	c.Exchange.Durable = true
	c.Publish.ConfirmDelivery, c.Publish.ChannelPoolSize = true, s.Channels
	return amqp.NewPublisher(c, watermill.NopLogger{}) // nil is none that it can use
}

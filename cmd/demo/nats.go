package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	natsStream  = "SHOP"
	natsPrefix  = "shop."
	natsTimeout = 10 * time.Second
)

// broker is a NATS server inside this process, with one stream and a consumer that reads it from the start.
type broker struct {
	server *server.Server
	conn   *nats.Conn
	book   *ledger
	// arrived is told of each message that the consumer received.
	arrived func(subscription, topic, wire string)
}

// start starts the server on a free port of the loopback address, its files in dir. After an error, stop undoes the rest.
func (b *broker) start(ctx context.Context, dir string) (err error) {
	b.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(natsTimeout) {
		return fmt.Errorf("start NATS: it takes no connections after %v", natsTimeout)
	}
	if b.conn, err = nats.Connect(b.server.ClientURL()); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	if err := b.consume(ctx); err != nil {
		return fmt.Errorf("set up the NATS stream %s: %w", natsStream, err)
	}
	return nil
}

// consume makes the stream and enters into the ledger what comes out of it.
func (b *broker) consume(ctx context.Context) error {
	js, err := jetstream.New(b.conn)
	if err != nil {
		return err
	}
	if _, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: natsStream, Subjects: []string{natsPrefix + ">"}}); err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, natsStream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	_, err = consumer.Consume(func(msg jetstream.Msg) {
		wire := msg.Headers().Get(jetstream.MsgIDHeader)
		b.book.saw("analytics", rowID(wire), true)
		b.arrived("analytics", strings.TrimPrefix(msg.Subject(), natsPrefix), wire)
	})
	return err
}

// sink is the address for a subscription.
func (b *broker) sink() string {
	return b.server.ClientURL() + "?stream=" + natsStream + "&prefix=" + natsPrefix
}

func (b *broker) stop() error {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return nil
}

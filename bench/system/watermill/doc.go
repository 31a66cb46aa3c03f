// Package watermill measures Watermill (github.com/ThreeDotsLabs/watermill) as an outbox: its Forwarder component reads a table with
// watermill-sql and publishes to JetStream with watermill-nats (pkg/nats, which its documentation recommends for production), to Kafka with
// watermill-kafka, and to RabbitMQ with watermill-amqp.
//
// The producer publishes inside its transaction through the forwarder's publisher, as the page "Forwarder (the outbox pattern)" shows: the
// message goes into an envelope of JSON with its payload in base64. Messages carry ids (TrackMsgId), which the page "NATS Jetstream" asks
// for where duplicates matter, so that all relays measured publish with an id.
//
// # Settings
//
// "watermill" has the default PostgreSQL schema and offsets adapters and all else by default: PollInterval 1 s, 100 messages a query.
//
// "watermill tuned" has what the documentation of SubscriberConfig and DefaultPostgreSQLSchema offers for speed: PollInterval 1 ms, which is
// also what watermill-sql's own tests take, and SubscribeBatchSize 1,000 ("1 is the safest value, but it may have a negative impact on
// performance when consuming a lot of messages").
//
// To Kafka the publisher has its defaults, by which it waits for the leader of the partition; to RabbitMQ it waits for confirms (ConfirmDelivery), which is
// off by default, and opens a channel for each message, which ChannelPoolSize 4 spares "watermill tuned".
//
// There is nothing documented against its main cost: a subscriber hands over one message, waits for its acknowledgement, and takes the next,
// and Publish waits for JetStream's. AckAsync is for subscribers, and JetStream.Disabled would publish without any acknowledgement.
package watermill

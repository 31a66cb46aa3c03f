package bridge

import (
	"bytes"
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/system"
)

const kafkaChild = "kafka"

func init() {
	child.Register(kafkaChild, func(args []string) { child.Fatal(serve(args[0], serveKafka)) })
}

// serveKafka runs a broker that takes down what it is asked to store. Each topic has three partitions.
func serveKafka(a *env.Arrivals) (address string, stop func(), err error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic, "bench.t2"))
	if err != nil {
		return "", nil, err
	}
	c.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		now := time.Now()
		for _, t := range request.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				noteAll(a, p.Records, now)
			}
		}
		return nil, nil, false
	})
	return c.ListenAddrs()[0], c.Close, nil
}

// number is what each payload begins with.
var number = []byte(`{"n":`)

// noteAll takes down the messages in records that are not compressed.
func noteAll(a *env.Arrivals, records []byte, now time.Time) {
	for {
		i := bytes.Index(records, number)
		if i < 0 {
			return
		}
		records = records[i:]
		a.Add(system.Number(records), now)
		records = records[len(number):]
	}
}

func startKafka(_ context.Context, dir string) (Server, error) {
	return &served{name: kafkaChild, dir: dir}, nil
}

func kafkaSink(at string) Sink { return Sink{URL: "kafka://" + at} }

// kafkaLoop produces as an idempotent producer to all in-sync replicas.
func kafkaLoop(ctx context.Context, o order) (*batches, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.at), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	send := func(ctx context.Context, batch []item) error {
		records := make([]*kgo.Record, len(batch))
		for i, m := range batch {
			records[i] = &kgo.Record{Topic: topic, Value: m.payload, Headers: kafkaHeaders(m.id, o.attributes)}
		}
		return client.ProduceSync(ctx, records...).FirstErr()
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return newBatches(ctx, o, 512, func() error { client.Close(); return nil }, same(4, send)...), nil
}

func kafkaHeaders(id string, all bool) []kgo.RecordHeader {
	h := []kgo.RecordHeader{{Key: "ce_id", Value: []byte(id)}}
	if all {
		h = append(h, kgo.RecordHeader{Key: "ce_specversion", Value: []byte("1.0")}, kgo.RecordHeader{Key: "ce_source", Value: []byte(source)},
			kgo.RecordHeader{Key: "ce_type", Value: []byte(topic)}, kgo.RecordHeader{Key: "ce_time", Value: []byte(created())},
			kgo.RecordHeader{Key: "content-type", Value: []byte(mediaType)})
	}
	return h
}

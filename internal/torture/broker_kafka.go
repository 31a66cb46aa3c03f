package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/internal/linktest"
)

// produceErrors are what brokers answer to Produce that may pass. With some of them the records are stored nevertheless.
var produceErrors = []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.KafkaStorageError,
	kerr.ThrottlingQuotaExceeded, kerr.UnknownServerError}

// toKafka is the subscription's name. No fault excuses a repeat as long as the relay runs: it asks again under the same sequence number.
var toKafka = []string{"kafka"}

var kafkaKind = &brokerKind{name: "kafka", about: "kfake in the checker's process, which speaks Kafka's protocol and is no broker: it has no disks, replicas or elections", hits: onKafka,
	find: func() (string, error) { return "", nil }, start: startKafka,
	faults: []*Fault{
		{Name: "kafka-leader", About: "the partitions of Kafka get other leaders, again and again", Unanswered: toKafka,
			Inject: hitting(func(ctx context.Context, k *kafka, rng *rand.Rand) error {
				for range 1 + rng.IntN(5) {
					k.cluster.ShufflePartitionLeaders()
					pause(ctx, span(rng, 0, 500*time.Millisecond))
				}
				return nil
			})},
		{Name: "kafka-errors", About: "the brokers of Kafka answer with an error that may pass", Unanswered: toKafka,
			Inject: hitting(func(ctx context.Context, k *kafka, rng *rand.Rand) error {
				fault := k.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: produceErrors[rng.IntN(len(produceErrors))], Count: -1})
				defer fault.Remove()
				pause(ctx, span(rng, 100*time.Millisecond, 2*time.Second))
				return nil
			})},
		{Name: "kafka-deaf", About: "what the brokers of Kafka say does not arrive: records without an acknowledgement", Unanswered: toKafka,
			Inject: hitting(func(ctx context.Context, k *kafka, rng *rand.Rand) (err error) {
				k.links.each(func(l *linktest.Link) { l.HalfOpen(linktest.ToClient) })
				pause(ctx, span(rng, 300*time.Millisecond, 4*time.Second))
				k.links.each((*linktest.Link).Cut)
				return k.links.heal()
			})},
	}}

const kafkaTopic = "all"

// kafka is a cluster that keeps all in memory. Each of its brokers calls itself by the address of a link; the checker's own reader goes past
// them, and takes down when records come.
type kafka struct {
	cluster *kfake.Cluster
	links   network
	real    map[string]string // by address of the link
	reader  *kgo.Client
	reading sync.WaitGroup
	book    *book

	mu   sync.Mutex
	next map[int32]int64 // by partition: the offset behind the last record in the book
}

// linked is a listener that another address leads to.
type linked struct {
	net.Listener
	addr net.Addr
}

func (l linked) Addr() net.Addr { return l.addr }

func startKafka(_ string, _ *world, b *book) (_ broker, err error) {
	k := &kafka{real: make(map[string]string), next: make(map[int32]int64), book: b}
	k.cluster, err = kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(4, kafkaTopic), kfake.ListenFn(k.listen))
	if err == nil {
		k.reader, err = kgo.NewClient(kgo.SeedBrokers(k.cluster.ListenAddrs()...), kgo.Dialer(k.dial), kgo.ConsumeTopics(kafkaTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond))
	}
	if err != nil {
		return nil, errors.Join(err, k.stop())
	}
	k.reading.Go(k.follow)
	return k, nil
}

// listen is how a broker does.
func (k *kafka) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	link, err := linktest.Start(l.Addr().String())
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	k.links, k.real[link.Addr()] = append(k.links, link), l.Addr().String()
	addr, err := net.ResolveTCPAddr("tcp", link.Addr())
	return linked{l, addr}, err
}

// dial goes past the links.
func (k *kafka) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, k.real[address])
}

// addr is none: each broker has a network of its own.
func (k *kafka) addr() string { return "" }

func (k *kafka) sink(string) (url, options string) {
	return "kafka://" + strings.Join(k.cluster.ListenAddrs(), ",") + "/" + kafkaTopic, ""
}

func (k *kafka) stop() error {
	if k.reader != nil {
		k.reader.Close()
	}
	k.reading.Wait()
	if k.cluster != nil {
		k.cluster.Close()
	}
	k.links.each((*linktest.Link).Stop)
	return nil
}

// follow enters records into the book when they come, until the reader is closed.
func (k *kafka) follow() {
	for {
		fetched := k.reader.PollFetches(context.Background())
		if fetched.IsClientClosed() {
			return
		}
		for _, r := range fetched.Records() {
			k.take(r, time.Now())
		}
	}
}

// take enters a record, unless the reader has had it: when a leader changes it may begin anew.
func (k *kafka) take(r *kgo.Record, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Offset < k.next[r.Partition] {
		return
	}
	k.next[r.Partition] = r.Offset + 1
	var id string
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			id = string(h.Value)
		}
	}
	k.book.enter(r.Value, id, now, "the topic of Kafka")
}

// catchUp waits until all that is there is in the book.
func (k *kafka) catchUp(ctx context.Context) error {
	return poll(ctx, time.Minute, func() error {
		infos := k.cluster.PartitionInfos(kafkaTopic)
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, p := range infos {
			if k.next[p.Partition] < p.HighWatermark {
				return fmt.Errorf("%d of %d records of partition %d of Kafka were read", k.next[p.Partition], p.HighWatermark, p.Partition)
			}
		}
		return nil
	})
}

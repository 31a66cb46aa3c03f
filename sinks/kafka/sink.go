package kafkasink

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/sinks"
)

const (
	// giveUpAfter is how long the client tries to learn what came of a record, and of one that was never sent: as Kafka's own clients do.
	giveUpAfter = 2 * time.Minute
	// tries is how often it sends one that brokers answer with an error that may pass.
	tries = 60
	// pendingBytes bounds the memory of records without an acknowledgement.
	pendingBytes = 64 << 20
	// everybody is the weight of whoever delivers alone.
	everybody = 1 << 20
)

// Sink produces to one Kafka cluster through one client.
type Sink struct {
	settings
	limits  sinks.Limits
	client  *kgo.Client
	trouble trouble
	redact  func(error) error

	// memory has room for pendingBytes. A record takes its part of it, or its size if that is more, and gives it back when it has ended.
	memory *semaphore.Weighted
	part   int64
	// company is shared by batches, and taken as a whole by whoever must be alone.
	company *semaphore.Weighted

	left left
}

var _ sinks.Sink = (*Sink)(nil)

// open makes a sink. It does not connect: a Kafka that is down is no error, deliveries are Unavailable until it is up.
func open(t sinks.Target, with sinks.Surroundings) (*Sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	addresses, err := guard.New(c.Guard)
	if err != nil {
		return nil, err
	}
	secrets, log := with.Secrets.Own(), with.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	id, err := c.identify(log, secrets)
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	s := &Sink{settings: c, memory: semaphore.NewWeighted(pendingBytes), part: pendingBytes / int64(c.MaxPending), company: semaphore.NewWeighted(everybody)}
	s.trouble.meter = with.Meter
	s.redact = func(err error) error { return sinks.RedactOutcome(&secrets.Redactor, err) }
	s.limits = sinks.Limits{Lanes: DefaultLanes, Batch: DefaultBatch}
	if t.Lanes > 0 {
		s.limits.Lanes = t.Lanes
	}
	if t.Batch > 0 {
		s.limits.Batch = t.Batch
	}
	d := &dialer{control: addresses.Control, secrets: secrets, secure: c.secure, tls: c.TLS}
	if c.secure {
		if _, err := d.config(c.brokers[0]); err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
	}
	if !c.secure && c.Mechanism == "PLAIN" {
		log.Warn("the password goes over the network as it is: use kafkas:// (TLS), or a SCRAM mechanism")
	}
	s.client, err = kgo.NewClient(s.clientOptions(d, id, with.Version)...)
	return s, err
}

func (s *Sink) clientOptions(d *dialer, id *identity, version string) []kgo.Opt {
	ack := time.Duration(s.AckTimeout)
	opts := []kgo.Opt{
		kgo.SeedBrokers(s.brokers...),
		kgo.ClientID(s.ClientID),
		kgo.Dialer(d.dial),
		kgo.WithHooks(&s.trouble),
		kgo.DisableClientMetrics(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(codecs[s.Compression]),
		kgo.ProducerBatchMaxBytes(int32(s.MaxMessageBytes)),
		kgo.BrokerMaxWriteBytes(int32(mostMessageBytes + 36<<20)),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // as Kafka's own clients do: murmur2
		// What was sent and has no answer is asked about again, under the same sequence number, and not given up before a long time is
		// over. Then the producer's epoch is raised: brokers refuse what still comes of the earlier one.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordDeliveryTimeout(giveUpAfter),
		kgo.RecordRetries(tries),
		kgo.UnknownTopicRetries(2),
		kgo.ProduceRequestTimeout(ack),
		kgo.RequestTimeoutOverhead(ack),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MaxBufferedRecords(2 * mostPending), // never reached: see memory
	}
	if version != "" {
		opts = append(opts, kgo.SoftwareNameAndVersion("postrider", version))
	}
	if id != nil {
		opts = append(opts, kgo.SASL(mechanisms[s.Mechanism](id)))
	}
	return opts
}

// backoff is the wait before the next try: from 50 ms, doubling, up to 2 s.
func backoff(tries int) time.Duration {
	return min(50*time.Millisecond<<min(max(tries-1, 0), 6), 2*time.Second)
}

// Limits returns the subscription's lanes and batch, or the defaults.
func (s *Sink) Limits() sinks.Limits { return s.limits }

// Close ends the connections, and what still waits for an acknowledgement.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

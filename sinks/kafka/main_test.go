package kafkasink

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a fake Kafka, which is no broker: it keeps all in memory, and knows as much of the protocol as its authors have taught it.
// Its one broker calls itself by the address of a link, so that clients have no way around that.
type cluster struct {
	*kfake.Cluster
	link *linktest.InTest
	real string
}

// advertised is a listener that has another address than its own.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// startKafka starts a cluster with the topic "orders" of three partitions.
func startKafka(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	k := new(cluster)
	k.start(t, opts...)
	return k
}

// start starts the cluster, or another one in its place.
func (k *cluster) start(t testing.TB, opts ...kfake.Opt) {
	t.Helper()
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		k.real = l.Addr().String()
		if k.link == nil {
			k.link = linktest.New(t, k.real)
		}
		k.link.Retarget(k.real)
		addr, err := net.ResolveTCPAddr("tcp", k.link.Addr())
		return advertised{l, addr}, err
	}
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"), kfake.ListenFn(listen)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	k.Cluster = c
}

// target is one whose acknowledgements are waited for as long as a slow machine takes.
func (k *cluster) target(options string) sinks.Target {
	return sinks.Target{URL: "kafka://" + k.link.Addr() + "/orders", Options: json.RawMessage(options), Timeout: sinktest.Patience}
}

func openSink(t testing.TB, target sinks.Target) *Sink {
	t.Helper()
	s, err := open(target, sinks.Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func deliver(t testing.TB, s sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(t.Context(), s, batch...)
}

// keyed is a new message of a key.
func keyed(key, payload string) sinks.Delivery {
	d := sinktest.NewDelivery("orders.created", payload)
	d.Key = key
	return d
}

// wantReason fails the test unless the outcome is of that kind and its reason holds the text.
func wantReason(t *testing.T, err error, kind sinks.Kind, text string) {
	t.Helper()
	sinktest.WantKinds(t, []error{err}, kind)
	if err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("the reason is %q, want %q in it", err, text)
	}
}

// reader reads a topic from its beginning on, past the link.
type reader struct {
	t      testing.TB
	k      *cluster
	mu     sync.Mutex
	client *kgo.Client
	got    []*kgo.Record
}

func (k *cluster) reader(t testing.TB) *reader { return &reader{t: t, k: k} }

// open connects, so that a test that reads nothing has nothing of the reader's.
func (r *reader) open(topic string) {
	k := r.k
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, k.real)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(k.real), kgo.Dialer(dial), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(client.Close)
	r.client = client
}

// records returns all that the topic holds, in order within each partition.
func (r *reader) records(topic string) []*kgo.Record {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		r.open(topic)
	}
	n := 0
	for _, p := range r.k.PartitionInfos(topic) {
		n += int(p.HighWatermark)
	}
	ctx, cancel := context.WithTimeout(context.Background(), sinktest.Patience)
	defer cancel()
	for len(r.got) < n {
		fetched := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("%d of %d records were read: %v", len(r.got), n, fetched.Errors())
		}
		r.got = append(r.got, fetched.Records()...)
	}
	return r.got
}

// payloads are the values of a key's records, in order.
func (r *reader) payloads(key string) (list []string) {
	r.t.Helper()
	for _, rec := range r.records("orders") {
		if string(rec.Key) == key {
			list = append(list, string(rec.Value))
		}
	}
	return list
}

func (r *reader) received() []sinktest.Received {
	var list []sinktest.Received
	for _, rec := range r.records("orders") {
		one := sinktest.Received{Key: string(rec.Key), Payload: rec.Value, Headers: map[string]string{}}
		for _, h := range rec.Headers {
			one.Headers[strings.ToLower(h.Key)] = string(h.Value)
		}
		one.MessageID, one.Topic, one.ContentType = one.Headers["ce_id"], one.Headers["ce_type"], one.Headers["content-type"]
		list = append(list, one)
	}
	return list
}

func TestConformance(t *testing.T) {
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		k := startKafka(t)
		r := k.reader(t)
		target := k.target("{}")
		target.Timeout = 4 * time.Second
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				s, err := open(target, sinks.Surroundings{})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: r.received, TooLarge: 2 << 20, NoAttempt: true,
			Down: k.link.Down, Hang: k.link.Hang, Up: k.link.Up,
		}
	})
}

// linktestOn passes on what comes to another address of this machine.
func linktestOn(t testing.TB, address, to string) (string, error) {
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		return "", err
	}
	var pipes sync.WaitGroup
	t.Cleanup(func() { l.Close(); pipes.Wait() })
	pipes.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			pipes.Go(func() { io.Copy(out, in); out.Close() })
			pipes.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
	return l.Addr().String(), nil
}

package kafkasink

import (
	"context"
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// Each benchmark counts one message as one operation. The cluster is a fake one in the same process, which stores nothing: the difference
// to the bare loop is the sink's, and neither figure says anything of Kafka.

var benchPayload = `{"customer": "c-42", "total": 12.50, "note": "` + strings.Repeat("x", 150) + `"}`

func benchTarget(b *testing.B) sinks.Target {
	k := startKafka(b, kfake.BlackholeProduce(), kfake.ListenFn(net.Listen))
	return sinks.Target{URL: "kafka://" + k.ListenAddrs()[0] + "/orders", Options: json.RawMessage(`{}`), Timeout: sinktest.Patience}
}

// BenchmarkSink delivers full batches over all lanes.
func BenchmarkSink(b *testing.B) {
	s := openSink(b, benchTarget(b))
	var rows atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var lanes sync.WaitGroup
	for range s.Limits().Lanes {
		lanes.Go(func() {
			size := int64(s.Limits().Batch)
			batch := make([]sinks.Delivery, size)
			for i := range batch {
				batch[i] = keyed("customer-"+strconv.Itoa(i), benchPayload)
			}
			outcomes := make([]error, size)
			for {
				last := rows.Add(size)
				n := min(size, size-last+int64(b.N))
				if n <= 0 {
					return
				}
				clear(outcomes)
				s.Deliver(context.Background(), batch[:n], outcomes[:n])
				for _, err := range outcomes[:n] {
					if err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	lanes.Wait()
}

// BenchmarkBare is the client alone, with the options of the sink and records like its own, as fast as it takes them.
func BenchmarkBare(b *testing.B) {
	c, err := parse(benchTarget(b))
	if err != nil {
		b.Fatal(err)
	}
	s := &Sink{settings: c}
	d := &dialer{}
	client, err := kgo.NewClient(append(s.clientOptions(d, nil, ""), kgo.MaxBufferedRecords(DefaultMaxPending))...)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	one := keyed("customer", benchPayload)
	m := newMemory(pendingBytes / DefaultMaxPending)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		one.Key = "customer-" + strconv.Itoa(i%DefaultBatch)
		r := new(kgo.Record)
		if err := c.render(m, &one, r); err != nil {
			b.Fatal(err)
		}
		client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

package kafkasink

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A record carries what CloudEvents' Kafka binding says, and the message's own headers.
func TestRecord(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(`{"compression": "zstd"}`))
	d := keyed("customer-7", `{"id": 42}`)
	d.CreatedAt = time.Date(2026, 5, 4, 10, 15, 0, 123456000, time.UTC)
	d.MessageID, d.Priority = "0a1b2c-42-1777889700123456", 1
	d.Headers = []byte(`{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Content-Type": "application/vnd.order+json"}`)
	sinktest.WantKinds(t, deliver(t, s, d), sinks.KindAccepted)
	r := k.reader(t).records("orders")[0]
	got := map[string]string{}
	for _, h := range r.Headers {
		got[h.Key] = string(h.Value)
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "0a1b2c-42-1777889700123456", "ce_source": "/postrider/0a1b2c", "ce_type": "orders.created",
		"ce_time": "2026-05-04T10:15:00.123456Z", "content-type": "application/vnd.order+json", "postrider-priority": "1",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	if string(r.Key) != "customer-7" || string(r.Value) != `{"id": 42}` || !maps.Equal(got, want) {
		t.Errorf("key %q, value %q, headers %v, want %v", r.Key, r.Value, got, want)
	}
	if time.Since(r.Timestamp) > time.Hour {
		t.Errorf("the record's time is %v: a topic's retention would count from then", r.Timestamp)
	}
}

// A tombstone is sent where that is wanted; no key and no value are none, and not empty ones.
func TestTombstones(t *testing.T) {
	for _, c := range []struct {
		options, key, payload string
		json, none            bool
	}{
		{`{"tombstones": true}`, "k", "null", true, true},
		{`{"tombstones": true}`, "k", "null", false, false},
		{`{"tombstones": true}`, "", "null", true, false},
		{`{"tombstones": true}`, "k", "{}", true, false},
		{`{}`, "k", "null", true, false},
		{`{}`, "", "", false, false},
	} {
		k := startKafka(t)
		d := keyed(c.key, c.payload)
		d.JSON = c.json
		sinktest.WantKinds(t, deliver(t, openSink(t, k.target(c.options)), d), sinks.KindAccepted)
		if r := k.reader(t).records("orders")[0]; (r.Value == nil) != c.none || string(r.Value) != c.payload && !c.none || (r.Key == nil) != (c.key == "") {
			t.Errorf("%+v: key %v, value %v", c, r.Key, r.Value)
		}
	}
}

func TestMessagesThatCannotBeSent(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(""))
	for headers, reason := range map[string]string{
		`{"ce_id": "x"}`:         "reserved",
		`{"CE_Foo": "x"}`:        "reserved",
		`{"Postrider-Key": "x"}`: "reserved",
		`{"": "x"}`:              "empty name",
		`[]`:                     "flat JSON object",
	} {
		d := keyed("a", "1")
		d.Headers = []byte(headers)
		wantReason(t, deliver(t, s, d)[0], sinks.KindPermanent, reason)
	}
}

// Messages of one key go to the partition that Kafka's own clients choose, in each sink alike.
func TestPartitionOfAKey(t *testing.T) {
	k := startKafka(t)
	for range 2 {
		s := openSink(t, k.target(""))
		for _, key := range []string{"customer-1", "customer-2", "ключ"} {
			sinktest.WantKinds(t, deliver(t, s, keyed(key, "1")), sinks.KindAccepted)
		}
	}
	java := kgo.StickyKeyPartitioner(kgo.KafkaHasher(murmur2)).ForTopic("orders")
	for _, r := range k.reader(t).records("orders") {
		if want := java.Partition(r, 3); int(r.Partition) != want {
			t.Errorf("key %s is in partition %d, want %d", r.Key, r.Partition, want)
		}
	}
}

// murmur2 is the hash of Kafka's own clients, from its definition.
func murmur2(b []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	for i := len(b) - 1; i >= 0; i-- {
		h ^= uint32(b[i]) << (8 * i)
	}
	if len(b) > 0 {
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// The message's memory may be used for something else once Deliver has returned.
func TestRecordHasMemoryOfItsOwn(t *testing.T) {
	c, err := parse(sinks.Target{URL: "kafka://a:9092"})
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte("payload")
	d := keyed("key", "")
	d.Payload = payload
	var r kgo.Record
	if err := c.render(&d, &r); err != nil {
		t.Fatal(err)
	}
	copy(payload, strings.Repeat("x", len(payload)))
	if string(r.Value) != "payload" || string(r.Key) != "key" {
		t.Errorf("key %q, value %q", r.Key, r.Value)
	}
	r.Key = append(r.Key, "grows"...)
	if string(r.Value) != "payload" {
		t.Errorf("a key that grows reaches into the value: %q", r.Value)
	}
}

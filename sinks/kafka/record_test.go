package kafkasink

import (
	"fmt"
	"maps"
	"strconv"
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
	d.CreatedAt = time.Date(2026, 5, 4, 12, 15, 0, 123456000, time.FixedZone("", 2*60*60))
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
	if err := c.render(newMemory(pendingBytes/DefaultMaxPending), &d, &r); err != nil {
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

// Records of a batch share no byte, whatever their sizes, and are made with few allocations.
func TestRecordsOfABatchAreApart(t *testing.T) {
	c, err := parse(sinks.Target{URL: "kafka://a:9092", Options: []byte(`{"prefix": "p."}`)})
	if err != nil {
		t.Fatal(err)
	}
	var batch []sinks.Delivery
	for i := range 300 {
		d := keyed("k"+strconv.Itoa(i), strings.Repeat(strconv.Itoa(i%10), i*i%5000))
		d.MessageID, d.Topic, d.Priority = fmt.Sprintf("%d-%d-1777889700123456", i/100, i), "t"+strconv.Itoa(i/30), int16(i%5)
		if i%7 == 0 {
			d.Headers = fmt.Appendf(nil, `{"own": "%d"}`, i)
		}
		batch = append(batch, d)
	}
	m := newMemory(pendingBytes / DefaultMaxPending)
	records := make([]kgo.Record, len(batch))
	for i := range batch {
		if err := c.render(m, &batch[i], &records[i]); err != nil {
			t.Fatal(err)
		}
		for j := range records[:i] { // what grows takes nothing from others
			_ = append(records[j].Headers, kgo.RecordHeader{Key: "too much"})
		}
	}
	for i, d := range batch {
		got, r := map[string]string{}, &records[i]
		for _, h := range r.Headers {
			got[h.Key] = string(h.Value)
		}
		want := map[string]string{"ce_specversion": "1.0", "ce_id": d.MessageID, "ce_source": "/postrider/" + strconv.Itoa(i/100), "ce_type": d.Topic, "ce_time": d.CreatedAt.UTC().Format(time.RFC3339Nano), "content-type": "application/json"}
		if i%7 == 0 {
			want["own"] = strconv.Itoa(i)
		}
		if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
			want["postrider-priority"] = strconv.Itoa(int(d.Priority))
		}
		if !maps.Equal(got, want) || len(got) != len(r.Headers) || string(r.Key) != d.Key || string(r.Value) != string(d.Payload) || r.Value == nil || r.Topic != "p."+d.Topic {
			t.Errorf("record %d: topic %s, key %q, %d bytes, headers %v, want %v", i, r.Topic, r.Key, len(r.Value), got, want)
		}
	}
	small := keyed("customer", benchPayload)
	if n := testing.AllocsPerRun(1000, func() {
		if err := c.render(m, &small, &records[0]); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for a record, want fewer than one", n)
	}
}

package pubsubsink

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/sinks"
)

// Whatever a message has, the library reads what was meant, in as many bytes as it would write, in memory that had another message before.
func TestAnyMessageIsRead(t *testing.T) {
	zone := time.FixedZone("", 5*60*60+30*60)
	c := settings{Options: Options{MaxMessageBytes: mostRequestBytes}}
	keys := []string{strings.Repeat("k", 1024), strings.Repeat("k", 1025), strings.Repeat(" ", 341), strings.Repeat(" ", 342), strings.Repeat("\xff", 500)}
	var m message
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.IntRange(0, longestValue), func(n int) string { return strings.Repeat("v", n) }))
		own := rapid.MapOfN(rapid.StringMatching(`h[a-zé ]{0,20}`), text.Filter(func(s string) bool { return len(s) <= longestValue }), 0, 90).Draw(t, "headers")
		headers, err := json.Marshal(own)
		if err != nil {
			t.Fatal(err)
		}
		d := sinks.Delivery{Subscription: "copy", Attempt: rapid.IntRange(1, 1<<40).Draw(t, "attempt"), Message: &sinks.Message{MessageID: "5eed-1-2", Topic: "a.b", Headers: headers,
			Key:      rapid.OneOf(text, rapid.SampledFrom(keys), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "key"),
			Payload:  rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
			Priority: int16(rapid.IntRange(0, 4).Draw(t, "priority")), JSON: rapid.Bool().Draw(t, "json"),
			CreatedAt: time.UnixMicro(rapid.Int64Range(-1e15, 1e16).Draw(t, "created")).In(zone)}}
		ordering, err := c.render(&m, &d)
		if err != nil {
			t.Fatal(err)
		}
		want := wanted(&d, own)
		var got pubsubpb.PubsubMessage
		if err := proto.Unmarshal(m.wire, &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&got, want) || ordering != want.OrderingKey || len(m.wire) != proto.Size(want) {
			t.Fatalf("%d bytes, ordering key %q, of %v\nwant %d of %v", len(m.wire), ordering, &got, proto.Size(want), want)
		}
	})
}

// wanted is what the library would be given.
func wanted(d *sinks.Delivery, own map[string]string) *pubsubpb.PubsubMessage {
	m := &pubsubpb.PubsubMessage{Data: d.Payload, Attributes: map[string]string{"ce-specversion": "1.0", "ce-id": d.MessageID, "ce-source": "/postrider/5eed", "ce-type": d.Topic,
		"ce-time": d.CreatedAt.UTC().Format(time.RFC3339Nano), "postrider-subscription": d.Subscription, "postrider-attempt": strconv.Itoa(d.Attempt), "Content-Type": "application/octet-stream"}}
	if d.JSON {
		m.Attributes["Content-Type"] = "application/json"
	}
	if d.Key != "" {
		m.OrderingKey, m.Attributes["postrider-key"] = d.Key, sinks.EncodeHeader(d.Key)
		if len(d.Key) > 1024 || strings.ToValidUTF8(d.Key, "") != d.Key {
			m.OrderingKey = hashed(d.Key)
		}
		if len(m.Attributes["postrider-key"]) > 1024 {
			m.Attributes["postrider-key"] = hashed(d.Key)
		}
	}
	if d.Priority != 0 && d.Priority != 2 {
		m.Attributes["postrider-priority"] = strconv.Itoa(int(d.Priority))
	}
	maps.Copy(m.Attributes, own)
	return m
}

// What the service takes is taken to the last byte and the last attribute, and what it does not take is refused from the first.
func TestLimitsOfAMessage(t *testing.T) {
	headers := func(n int, name, value string) []byte {
		own := map[string]string{}
		for i := range n {
			own[name+fmt.Sprint(i)] = value
		}
		text, err := json.Marshal(own)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	c := settings{Options: Options{MaxMessageBytes: mostRequestBytes}}
	d := sinks.Delivery{Subscription: "copy", Attempt: 1, Message: &sinks.Message{MessageID: "5eed-1-2", Topic: "a.b"}}
	var m message
	check := func(what, refused string) {
		t.Helper()
		_, err := c.render(&m, &d)
		if err == nil && refused != "" || err != nil && (refused == "" || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v, want %q", what, err, refused)
		}
	}
	for n, refused := range map[int]string{92: "", 93: "Pub/Sub takes 100 attributes, of which ours are up to 8"} {
		d.Headers = headers(n, "h", "")
		check(fmt.Sprint(n, " headers"), refused)
	}
	for n, refused := range map[int]string{1024: "", 1025: "at most 1024"} {
		d.Headers = headers(1, "h", strings.Repeat("v", n))
		check(fmt.Sprint("a value of ", n, " bytes"), refused)
	}
	for n, refused := range map[int]string{256: "", 257: "names of 1 to 256 bytes"} {
		d.Headers = headers(1, strings.Repeat("h", n-1), "")
		check(fmt.Sprint("a name of ", n, " bytes"), refused)
	}
	d.Headers = []byte(`{"":"x"}`)
	check("no name", "names of 1 to 256 bytes")
	d.Headers, d.Payload = nil, []byte("payload")
	check("small", "")
	counted := len(m.wire) + maxOverheadOfOne + maxOverheadOfMany
	c.MaxMessageBytes = counted
	check("as large as is allowed", "")
	c.MaxMessageBytes--
	check("larger by one", fmt.Sprintf("it has %d bytes with its attributes: max_message_bytes is %d", counted, counted-1))
}

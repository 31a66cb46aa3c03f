package mqttsink

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2"
	mochipackets "github.com/mochi-mqtt/server/v2/packets"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func deliver(t testing.TB, sink sinks.Sink, batch ...sinks.Delivery) []error {
	t.Helper()
	return sinktest.Deliver(t.Context(), sink, batch...)
}

func batchOf(topics ...string) (list []sinks.Delivery) {
	for i, topic := range topics {
		list = append(list, sinktest.NewDelivery(topic, fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

func keyed(key, payload string) sinks.Delivery {
	d := sinktest.NewDelivery("orders.created", payload)
	d.Key = key
	return d
}

// eventually delivers until it is accepted.
func eventually(t testing.TB, sink sinks.Sink, d sinks.Delivery) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := deliver(t, sink, d)[0]
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not accepted: %v", err)
		}
	}
}

// A message says who it is in user properties, as CloudEvents has them.
func TestMessage(t *testing.T) {
	b := startBroker(t).listening()
	sink := b.open(`{"expiry": "30m", "prefix": "shop/", "separator": "."}`)
	d := sinktest.NewDelivery("orders.created", "text")
	d.Key, d.Priority, d.Attempt, d.JSON = "customer 7", 1, 3, false
	d.MessageID = "7f3a-17-1700000000000000"
	d.Headers = []byte(`{"Content-Type": "text/plain", "region": "eu"}`)
	sinktest.WantKinds(t, deliver(t, sink, d), sinks.KindAccepted)
	got := b.ear.heard()
	if len(got) != 1 {
		t.Fatalf("%d messages, want 1", len(got))
	}
	p := got[0]
	if p.Topic != "shop/orders.created" || p.QoS != 1 || p.Retain || p.Properties.ContentType != "text/plain" || p.Properties.MessageExpiry == nil || *p.Properties.MessageExpiry > 1800 ||
		string(p.Payload) != "text" {
		t.Errorf("arrived as %+v", p)
	}
	var have []string
	for _, u := range p.Properties.User {
		have = append(have, u.Key+"="+u.Value)
	}
	slices.Sort(have)
	want := []string{"id=" + d.MessageID, "postrider-attempt=3", "postrider-key=customer%207", "postrider-priority=1", "postrider-subscription=conformance", "region=eu",
		"source=/postrider/7f3a", "specversion=1.0", "time=" + d.CreatedAt.UTC().Format(time.RFC3339Nano), "type=orders.created"}
	if !slices.Equal(have, want) {
		t.Errorf("the user properties are %q, want %q", have, want)
	}
	for _, headers := range []string{`{"id": "x"}`, `{"Source": "x"}`, `{"Postrider-Key": "x"}`, `{"": "x"}`, `{"a": "b\tc"}`, `{"a": "\ufdd0"}`, `{"a": "` + strings.Repeat("x", 65_536) + `"}`} {
		d := sinktest.NewDelivery("a", "1")
		d.Headers = []byte(headers)
		sinktest.WantKinds(t, deliver(t, sink, d), sinks.KindPermanent)
	}
}

// What nobody is subscribed to waits, alone, where the broker says so; where it may be dropped it is, and what is retained is not for nobody.
func TestNobodyIsSubscribed(t *testing.T) {
	b := startBroker(t)
	sinktest.WantText(t, deliver(t, b.open(""), batchOf("a")...)[0], sinks.KindMisconfigured, "nobody is subscribed", "0x10")
	sinktest.WantKinds(t, deliver(t, b.open(`{"unmatched": "drop"}`), batchOf("a")...), sinks.KindAccepted)
	sinktest.WantKinds(t, deliver(t, b.open(`{"retain": true}`), batchOf("kept.one")...), sinks.KindAccepted)
	b.listening()
	sinktest.WantKinds(t, deliver(t, b.open(""), batchOf("b")...), sinks.KindAccepted)
	if got := b.received(); len(got) != 2 || got[0].Topic != "kept.one" || got[1].Topic != "b" {
		t.Errorf("received %v, want what was retained, and b", got)
	}
}

// Each reason of the standard counts for its own message, and for no other in the batch.
func TestReasons(t *testing.T) {
	answers := map[string]mochipackets.Code{
		"quota": mochipackets.ErrQuotaExceeded, "unauthorised": mochipackets.ErrNotAuthorized, "name": mochipackets.ErrTopicNameInvalid,
		"payload": mochipackets.ErrPayloadFormatInvalid, "implementation": mochipackets.ErrImplementationSpecificError, "unspecified": mochipackets.ErrUnspecifiedError,
		"odd": {Code: 0xEE}, "nobody": {Code: 0x10}, "unknown": {Code: 0x42},
	}
	sink := to(t, startSaying(t, answers, nil))
	want := map[string]sinks.Kind{
		"quota": sinks.KindUnavailable, "unauthorised": sinks.KindMisconfigured, "name": sinks.KindPermanent, "payload": sinks.KindPermanent,
		"implementation": sinks.KindRetryable, "unspecified": sinks.KindRetryable, "odd": sinks.KindRetryable, "nobody": sinks.KindMisconfigured, "unknown": sinks.KindAccepted,
	}
	var topics []string
	for topic := range want {
		topics = append(topics, topic, "fine."+topic)
	}
	for i, err := range deliver(t, sink, batchOf(topics...)...) {
		kind, known := want[topics[i]]
		if got, _ := sinks.Classify(err); known && got != kind || !known && got != sinks.KindAccepted {
			t.Errorf("%s: %v: %v, want %v", topics[i], got, err, kind)
		}
		if known && kind != sinks.KindAccepted && !strings.Contains(err.Error(), "0x") {
			t.Errorf("%s: the reason is %q, want its number in it", topics[i], err)
		}
	}
}

// What a broker says that it can do is kept to, before anything is sent.
func TestLimitsOfTheBroker(t *testing.T) {
	none := mochi.NewDefaultServerCapabilities()
	none.MaximumQos = 0
	target := startSaying(t, nil, none)
	sinktest.WantText(t, deliver(t, to(t, target), batchOf("a")...)[0], sinks.KindMisconfigured, "takes no QoS 1")
	if unfit := examined(t, target); unfit == nil || !strings.Contains(unfit.Text, "QoS 1") {
		t.Errorf("examined: %v", unfit)
	}
	no, most := byte(0), uint32(2000)
	target = startFake(t, welcome(packets.Properties{RetainAvailable: &no, MaximumPacketSize: &most}), func(c net.Conn) {
		each(c, func(p *packets.Publish) { acknowledge(c, p) })
	})
	large := sinktest.NewDelivery("a", strings.Repeat("x", 2000))
	got := deliver(t, to(t, target), append(batchOf("a"), large)...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent)
	sinktest.WantText(t, got[1], sinks.KindPermanent, "lets 2000 pass")
	target.Options = []byte(`{"max_packet_bytes": 1000}`)
	sinktest.WantText(t, deliver(t, to(t, target), large)[0], sinks.KindPermanent, "lets 1000 pass")
	target.Options = []byte(`{"retain": true}`)
	sinktest.WantText(t, deliver(t, to(t, target), batchOf("a")...)[0], sinks.KindMisconfigured, "retains no messages")
}

// No packet is larger than was reckoned.
func TestPacketBytes(t *testing.T) {
	c, err := parse(sinks.Target{URL: "mqtt://h", Options: []byte(`{"expiry": "1h"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 100, 200, 20_000, 3_000_000} {
		d := sinktest.NewDelivery("orders.created", strings.Repeat("x", n))
		d.Key, d.Headers = "k", fmt.Appendf(nil, `{"a": %q}`, strings.Repeat("y", min(n, 60_000)))
		p, err := c.packet(&d, maxPacket)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := p.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if have, said := b.Len(), packetBytes(p); have > said || have < said-8 {
			t.Errorf("a packet of %d bytes was reckoned as %d", have, said)
		}
	}
}

// The receive maximum is kept to, over all batches.
func TestReceiveMaximum(t *testing.T) {
	three := uint16(3)
	var most atomic.Int64
	target := startFake(t, welcome(packets.Properties{ReceiveMaximum: &three}), func(c net.Conn) {
		var waiting []*packets.Publish
		each(c, func(p *packets.Publish) {
			waiting = append(waiting, p)
			most.Store(max(most.Load(), int64(len(waiting))))
			if len(waiting) < 3 {
				return
			}
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			if n, _ := c.Read(make([]byte, 1)); n > 0 { // a fourth one
				most.Store(4)
				c.Close()
				return
			}
			if err := c.SetReadDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			for _, w := range slices.Backward(waiting) { // the others wait until there is room
				acknowledge(c, w)
			}
			waiting = nil
		})
	})
	sink := to(t, target)
	topics := make([]string, 30)
	for i := range topics {
		topics[i] = "a"
	}
	sinktest.WantKinds(t, deliver(t, sink, batchOf(topics...)...), make([]sinks.Kind, 30)...)
	if n := most.Load(); n != 3 {
		t.Errorf("%d messages were without an answer at once, want 3", n)
	}
}

// A broker that ends the connection for one message gets the others, each by itself; that one is told of.
func TestOneThatEndsTheConnection(t *testing.T) {
	var conns atomic.Int32
	target := startFake(t, welcome(packets.Properties{}), func(c net.Conn) {
		first := conns.Add(1) == 1
		each(c, func(p *packets.Publish) {
			if strings.HasPrefix(string(p.Payload), "bad") {
				_, _ = (&packets.Disconnect{ReasonCode: packets.DisconnectPacketTooLarge, Properties: &packets.Properties{ReasonString: "too fat"}}).WriteTo(c)
				c.Close()
				return
			}
			if !first || string(p.Payload) != "first" { // whose answer gets lost with the connection
				acknowledge(c, p)
			}
		})
	})
	sink := to(t, target)
	got := deliver(t, sink, sinktest.NewDelivery("a", "first"), sinktest.NewDelivery("a", "bad"), sinktest.NewDelivery("a", "x"), sinktest.NewDelivery("a", "bad too"), sinktest.NewDelivery("a", "y"))
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindPermanent, "packet too large (0x95)", "too fat")
	sinktest.WantKinds(t, deliver(t, sink, sinktest.NewDelivery("a", "bad")), sinks.KindPermanent)
	sinktest.WantKinds(t, deliver(t, sink, batchOf("b")...), sinks.KindAccepted)
}

// What answers and is no broker of ours, or a hostile one, costs neither memory nor time.
func TestStrangeBrokers(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		kind  sinks.Kind
		words string
	}{
		"of MQTT 3":         {"\x20\x02\x00\x01", sinks.KindMisconfigured, "does not speak MQTT 5"},
		"of another kind":   {"\x30\x02\x00\x01", sinks.KindMisconfigured, "does not speak MQTT"},
		"with endless size": {"\x20\xff\xff\xff\xff\xff", sinks.KindMisconfigured, "does not speak MQTT"},
		"with much to say":  {"\x20\xff\xff\xff\x7f", sinks.KindUnavailable, "268435455 bytes"},
		"that hangs up":     {"", sinks.KindUnavailable, ""},
		"cut short":         {"\x20\x09\x00\x00", sinks.KindUnavailable, ""},
		"that speaks HTTP":  {"HTTP/1.1 400 Bad Request\r\n\r\n", sinks.KindMisconfigured, "does not speak MQTT"},
	} {
		t.Run(name, func(t *testing.T) {
			target := startFake(t, nil, func(conn net.Conn) {
				_, _ = conn.Write([]byte(c.text)) // whoever is gone needs none
			})
			sinktest.WantText(t, deliver(t, to(t, target), batchOf("a")...)[0], c.kind, c.words)
		})
	}
}

// FuzzBroker: whatever a broker sends, reading it ends, in an error or a packet.
func FuzzBroker(f *testing.F) {
	for _, s := range []string{"\x20\x02\x00\x01", "\x20\x03\x00\x00\x00", "\x40\x02\x00\x01", "\xe0\x02\x8e\x00", "\xd0\x00", "\x20\x06\x00\x00\x03\x21\x00\x02", "\x30\x05\x00\x01a\x00x", "\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := readerOf(text)
		for {
			if _, err := l.next(); err != nil {
				return
			}
		}
	})
}

// A connection that says nothing is kept alive, and given up when the broker is silent.
func TestKeepAlive(t *testing.T) {
	second := uint16(1)
	pings := make(chan struct{}, 100)
	target := startFake(t, welcome(packets.Properties{ServerKeepAlive: &second}), func(c net.Conn) {
		for n := 0; ; {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			switch content := p.Content.(type) {
			case *packets.Publish:
				acknowledge(c, content)
			case *packets.Pingreq:
				if n++; n <= 3 {
					_, _ = packets.NewControlPacket(packets.PINGRESP).WriteTo(c) // whoever is gone needs none
				}
				pings <- struct{}{}
			}
		}
	})
	sink := to(t, target)
	sinktest.WantKinds(t, deliver(t, sink, batchOf("a")...), sinks.KindAccepted)
	l := deliverer(sink).shared.Last()
	if l.limits.keepAlive != time.Second {
		t.Fatalf("it is kept alive every %v, and the broker asked for a second", l.limits.keepAlive)
	}
	for range 3 {
		<-pings
	}
	select {
	case <-l.done:
	case <-time.After(patience):
		t.Error("a silent broker is not given up")
	}
	sinktest.WantKinds(t, deliver(t, sink, batchOf("b")...), sinks.KindAccepted)
}

// examined is what the doctor finds.
func examined(t *testing.T, target sinks.Target) *sinks.UnfitError {
	t.Helper()
	err := Destination.Examine(t.Context(), target)
	unfit, ok := errors.AsType[*sinks.UnfitError](err)
	if err != nil && !ok {
		t.Errorf("%s %s: %v, want an UnfitError or nothing", target.URL, target.Options, err)
	}
	return unfit
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	for _, c := range []struct{ url, options, want string }{
		{"mqtt://joe:hunter22@h", "", "reference"}, {"mqtt://", "", "names no host"}, {"mqtt://h:0", "", "from 1 to 65535"}, {"mqtt://h/topic", "", "must be as in"},
		{"mqtt://h?topc=x", "", `"topc"`}, {"mqtt://h?topic=x&topic=y", "", "twice"}, {"mqtt://h?topic=x", `{"topic": "y"}`, "twice"}, {"mqtt://h#x", "", "must be as in"},
		{"mqtt:h", "", "must be as in"}, {"mqtt://h?topic=x&prefix=y", "", "topic is that of all"}, {"mqtt://h", `{"topic": "a/+"}`, "topic holds '+'"},
		{"mqtt://h", `{"prefix": "a/#"}`, "prefix holds '#'"}, {"mqtt://h", `{"separator": "\u0000"}`, "separator holds"}, {"mqtt://h", `{"topic": "x", "separator": "/"}`, "separator are for"},
		{"mqtt://h", `{"unmatched": "keep"}`, "wait or drop"}, {"mqtt://h", `{"expiry": "-1s"}`, "whole seconds"}, {"mqtt://h", `{"expiry": "1500ms"}`, "whole seconds"},
		{"mqtt://h", `{"max_packet_bytes": -1}`, "from 1 to"}, {"mqtt://h", `{"max_packet_bytes": 268435456}`, "from 1 to 268435455"}, {"mqtt://h", `{"client_id": "a\u0001"}`, "client_id holds"},
		{"mqtt://h", `{"password": "env:X"}`, "no user"}, {"mqtt://h", `{"user": "joe", "password": "hunter22"}`, "password"}, {"mqtt://h", `{"tls": {"ca": "x"}}`, "absolute path"},
		{"mqtt://h", `{"guard": {"deny": ["x"]}}`, "CIDR"}, {"mqtt://h", `{"topc": "x"}`, "topc"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: the password shows: %v", c.url, c.options, err)
		}
	}
	for _, good := range []string{"mqtt://h", "mqtt://h/", "mqtts://[::1]:7000,10.0.0.1?prefix=p/"} {
		if err := Destination.Check(sinks.Target{URL: good}, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// A password that goes over the network as it is takes a warning; over TLS it does not.
func TestPlainPasswordIsWarnedOf(t *testing.T) {
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	for url, warns := range map[string]bool{"mqtt://localhost": true, "mqtts://localhost": false} {
		var log bytes.Buffer
		sink, err := Destination.Open(t.Context(), sinks.Target{URL: url, Options: []byte(`{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`)},
			sinks.Surroundings{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "goes over the network as it is") != warns {
			t.Errorf("%s: the log says %q", url, log.String())
		}
	}
}

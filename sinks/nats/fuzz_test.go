package natssink

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// FuzzParseURL: an address is refused by an error that shows no password, or is a configuration whose servers can be dialled.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"nats://host:4222", "tls://host/", "nats://[::1]:4222", "nats://joe:geheim%40w@a:1,b:2?stream=ORDERS&prefix=pg.",
		"nats://host?core=1", "nats://host?ack_timeout=2s&max_pending=9", "", "nats://", "nats://a,", "nats://joe:geh/eim@host", "nats://h?stream=A&stream=B",
		"nats://h?prefix=a..", "nats://h?stream=%zz", "nats://u:geheim@h?steam=1", "nats://u:ge heim@h", "nats://a@b@c:1,d", "nats://h#f", "nats://h:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, file := range []string{"creds", "ca", "cert", "key"} {
			if strings.Contains(raw, file) {
				return // files of this machine are not the fuzzer's to open
			}
		}
		c, err := ParseURL(raw)
		if err != nil {
			checkNoSecret(t, raw, err)
			return
		}
		for _, server := range c.Servers {
			if u, err := url.Parse(server); err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" {
				t.Fatalf("%q has the server %q, %v", raw, server, err)
			}
		}
		full := c.withDefaults()
		if err := full.validate(); err != nil || len(c.Servers) == 0 || full.AckTimeout <= 0 || full.MaxPending < 1 || full.Lanes < 1 || full.Batch < 1 {
			t.Fatalf("%q is %+v, %v", raw, full, err)
		}
		if checkSubject(c.Prefix+"orders.created") != nil || c.Core && c.Stream != "" {
			t.Fatalf("%q publishes to prefix %q, stream %q, core %t", raw, c.Prefix, c.Stream, c.Core)
		}
	})
}

// checkNoSecret looks for what stands before the last @ of the address, as far as that is not in the rest too.
func checkNoSecret(t *testing.T, raw string, err error) {
	t.Helper()
	address, _, _ := strings.Cut(raw, "?")
	_, rest, _ := strings.Cut(address, "://")
	i := strings.LastIndexByte(rest, '@')
	if i < 0 {
		return
	}
	_, secret, _ := strings.Cut(rest[:i], ":")
	if len(secret) > 5 && strings.Contains(err.Error(), secret) && !strings.Contains(rest[i:]+raw[len(address):]+"percent-encoded it looks like nats://host:4222", secret) {
		t.Fatalf("%q: the error shows the password: %v", raw, err)
	}
}

// checkReuse renders the message again where others were rendered before it.
func checkReuse(t *testing.T, cfg *Config, want *nats.Msg, wantErr error, d *sinks.Delivery) {
	t.Helper()
	other := func(key, headers string) *sinks.Delivery {
		return &sinks.Delivery{Message: &sinks.Message{Topic: "other", Key: key, Headers: []byte(headers), MessageID: "other", Payload: []byte("other"), JSON: true}}
	}
	before := []*sinks.Delivery{other("", ""), other("k", ""), other("", `{"X-Other":"1","content-type":"a/b"}`), other("k", `{"x-other":"1"}`), other("", `{"a":"\n"}`), d}
	r := newRenderer(cfg)
	for i, b := range before {
		_, _ = r.message(b, false)
		if i%2 == 0 {
			r.rest()
		}
		got, err := r.message(d, false)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("after message %d: %v, want %v", i, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("after message %d: %+v, want %+v", i, got, want)
		}
	}
}

// FuzzAnswer: what is taken for stored at a glance is what reading the JSON says.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"stream":"PG","seq":1}`, `{"stream":"PG","seq":18446744073709551615}`, `{"stream":"PG","domain":"hub","seq":12,"duplicate": true}`,
		`{"stream":"PG","seq":1,"duplicate":true}`, `{"stream":"","seq":1}`, `{"stream":"PG","seq":01}`, `{"stream":"PG","seq":1}x`, `{"stream":"P\"G","seq":1}`,
		`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"PG","seq":0}`, `{"stream":"PG","seq":}`, ``, `null`, `{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want struct {
			Error *jetstream.APIError `json:"error"`
			jetstream.PubAck
		}
		ok := json.Unmarshal(data, &want) == nil && want.Error == nil && want.Stream != ""
		if stored(data) && !ok {
			t.Fatalf("%q is taken for stored: %+v", data, want)
		}
		if err := answer(&nats.Msg{Data: data}); (err == nil) != ok {
			t.Fatalf("%q is taken for %v, want stored %t", data, err, ok)
		}
	})
}

// FuzzMessage: what is published is one line of subject and headers that a client reads as they were meant, or it is refused.
func FuzzMessage(f *testing.F) {
	f.Add("pg.", "orders.created", "k", []byte(`{"X-A":"b","x-b":" c "}`), "1-2-3")
	f.Add("pg.", "orders.created", "", []byte(nil), "1-2-3")
	f.Add("", "a b", "é\r\n", []byte(`{"Nats-Msg-Id":"1"}`), "")
	f.Add("x", ".a", "", []byte(`{"status":"100"}`), "1")
	f.Add("$JS.", "a.>", "", []byte(`{"content-type":"a/b"}`), "1")
	f.Add("", "_INBOX.a", "", []byte(`{"a":"\t"}`), "1")
	f.Fuzz(func(t *testing.T, prefix, topic, key string, headers []byte, id string) {
		cfg := &Config{Prefix: prefix, Stream: "S"}
		d := &sinks.Delivery{Message: &sinks.Message{Topic: topic, Key: key, Headers: headers, MessageID: sinks.EncodeHeader(id), Payload: []byte("x")}}
		r := newRenderer(cfg)
		m, err := r.message(d, false)
		checkReuse(t, cfg, m, err, d)
		if err != nil {
			return
		}
		if strings.ContainsAny(m.Subject, " \t\r\n\x00*>") && strings.ContainsAny(m.Subject, " \t\r\n\x00") || m.Subject != prefix+topic {
			t.Fatalf("subject %q", m.Subject)
		}
		var wire bytes.Buffer
		wire.WriteString("NATS/1.0\r\n")
		if err := http.Header(m.Header).Write(&wire); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("\r\n")
		got, err := nats.DecodeHeadersMsg(wire.Bytes())
		if err != nil {
			t.Fatalf("%q cannot be read: %v", wire.String(), err)
		}
		if len(got) != len(m.Header) {
			t.Fatalf("%q arrives as %q", m.Header, got)
		}
		for name, values := range m.Header {
			if want := strings.Trim(values[0], " \t"); !slices.Equal(got[name], []string{want}) {
				t.Errorf("%s arrives as %q, want %q", name, got[name], want)
			}
		}
		if back, err := url.PathUnescape(got.Get("Postrider-Key")); err != nil || back != key {
			t.Errorf("key %q arrives as %q, %v", key, back, err)
		}
	})
}

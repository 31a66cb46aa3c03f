package natssink

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// wantReason fails the test unless the outcome is of that kind and its reason holds the text.
func wantReason(t *testing.T, err error, kind sinks.Kind, text string) {
	t.Helper()
	sinktest.WantKinds(t, []error{err}, kind)
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the reason is %q, want %q in it", err, text)
	}
}

func TestSetupMistakes(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}})
	addStream(t, js, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	for name, c := range map[string]struct {
		cfg    Config
		topic  string
		reason string
	}{
		"the stream is missing":    {Config{Stream: "NEW", Prefix: "pg."}, "a.b", `stream "NEW" does not exist: create it with: nats stream add NEW --subjects 'pg.>'`},
		"no stream captures":       {Config{}, "a.b", "no stream captures the subject: create one with: nats stream add NAME --subjects 'a.b'"},
		"the stream does not":      {Config{Stream: "ORDERS"}, "a.b", `stream "ORDERS" does not capture the subject`},
		"another stream's subject": {Config{Stream: "ORDERS"}, "other.a", "subject other.a belongs to another stream than ORDERS"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Servers = []string{srv.ClientURL()}
			s := open(t, c.cfg)
			out := deliver(t, s, sinktest.NewDelivery(c.topic, "1"), sinktest.NewDelivery(c.topic, "2"))
			wantReason(t, out[0], sinks.KindMisconfigured, c.reason)
			if kind, _ := sinks.Classify(out[1]); !kind.Unavailable() {
				t.Errorf("the second of the batch is %v (%v)", kind, out[1])
			}
			streams := js.StreamNames(t.Context())
			n := 0
			for range streams.Name() {
				n++
			}
			if n != 2 {
				t.Errorf("there are %d streams, want the 2 that were there before", n)
			}
		})
	}
}

func TestJetStreamIsOff(t *testing.T) {
	srv := startServer(t, func(o *server.Options) { o.JetStream = false })
	for _, stream := range []string{"", "ORDERS"} {
		s := open(t, Config{Servers: []string{srv.ClientURL()}, Stream: stream})
		wantReason(t, deliver(t, s, sinktest.NewDelivery("a", "1"))[0], sinks.KindMisconfigured, "JetStream is not enabled")
	}
}

func TestJetStreamIsOffForTheAccount(t *testing.T) {
	srv := startServer(t, func(o *server.Options) {
		account := server.NewAccount("A")
		o.Accounts, o.Users = []*server.Account{account}, []*server.User{{Username: "joe", Password: "pw", Account: account}}
	})
	s := open(t, Config{Servers: []string{"nats://joe:pw@" + srv.Addr().String()}})
	wantReason(t, deliver(t, s, sinktest.NewDelivery("a", "1"))[0], sinks.KindMisconfigured, "JetStream is not enabled")
}

func TestStreamLimits(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.>"}, MaxMsgSize: 2000})
	addStream(t, js, jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large.>"}})
	addStream(t, js, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full.>"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
	addStream(t, js, jetstream.StreamConfig{
		Name: "EACH", Subjects: []string{"each.>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
	})
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	one := func(topic, payload, headers string) error {
		d := sinktest.NewDelivery(topic, payload)
		d.Headers = []byte(headers)
		return deliver(t, s, d)[0]
	}
	wantReason(t, one("small.a", strings.Repeat("x", 2001), ""), sinks.KindPermanent, "message size exceeds maximum allowed")
	wantReason(t, one("large.a", strings.Repeat("x", 1<<20), ""), sinks.KindPermanent, "max_payload of 1048576 bytes")
	wantReason(t, one("large.a", "x", `{"h":"`+strings.Repeat("x", 70_000)+`"}`), sinks.KindPermanent, "header size exceeds")
	sinktest.WantKinds(t, []error{one("full.a", "1", ""), one("each.a", "1", "")}, sinks.KindAccepted, sinks.KindAccepted)
	wantReason(t, one("full.a", "2", ""), sinks.KindUnavailable, "maximum messages exceeded")
	wantReason(t, one("each.a", "2", ""), sinks.KindRetryable, "maximum messages per subject exceeded")
	sinktest.WantKinds(t, []error{one("each.b", "2", "")}, sinks.KindAccepted)
}

func TestDuplicateIsAccepted(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"orders.>"}})}
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	d := sinktest.NewDelivery("orders.created", "1")
	for range 2 {
		sinktest.WantKinds(t, deliver(t, s, d), sinks.KindAccepted)
	}
	if n := len(r.read()); n != 1 {
		t.Errorf("the stream holds %d messages, want 1", n)
	}
}

func TestMessagesThatCannotBeSent(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"pg.>"}})}
	s := open(t, Config{Servers: []string{srv.ClientURL()}, Prefix: "pg."})
	for topic, reason := range map[string]string{
		"":                        "empty token",
		"a..b":                    "empty token",
		"a.":                      "empty token",
		"a.*":                     "wildcard",
		"a.>":                     "wildcard",
		"a b":                     "it holds ' '",
		"a\r\nPUB x 0\r\n":        `it holds '\r'`,
		strings.Repeat("x", 3000): "at most 2048",
	} {
		wantReason(t, deliver(t, s, sinktest.NewDelivery(topic, "1"))[0], sinks.KindPermanent, reason)
	}
	for headers, reason := range map[string]string{
		`{"Nats-Rollup":"all"}`:               "reserved",
		`{"nats-expected-last-sequence":"1"}`: "reserved",
		`{"Postrider-Key":"k"}`:               "reserved",
		`{"a":"b\nc"}`:                        "control character",
		`[]`:                                  "flat JSON object",
	} {
		d := sinktest.NewDelivery("a", "1")
		d.Headers = []byte(headers)
		wantReason(t, deliver(t, s, d)[0], sinks.KindPermanent, reason)
	}
	d := sinktest.NewDelivery("a", "")
	d.Headers = []byte(`{"Status":"shipped"}`)
	wantReason(t, deliver(t, s, d)[0], sinks.KindPermanent, "empty payload")
	if n := len(r.read()); n != 0 {
		t.Errorf("%d messages arrived, want none", n)
	}
	d.Payload = []byte("1")
	sinktest.WantKinds(t, deliver(t, s, d), sinks.KindAccepted)
	bare := open(t, Config{Servers: []string{srv.ClientURL()}})
	for _, topic := range []string{"$JS.API.STREAM.PURGE.PG", "_INBOX.x"} {
		wantReason(t, deliver(t, bare, sinktest.NewDelivery(topic, "1"))[0], sinks.KindPermanent, "belong to NATS itself")
	}
}

// Bytes are called so, JSON is what needs no name, and a message's own content type wins.
// A subscriber is told a priority that is not the default, whatever the message before had.
func TestPriorityIsTold(t *testing.T) {
	r := newRenderer(&Config{})
	for _, headers := range []string{"", `{"a":"b"}`} {
		for _, priority := range []int16{2, 1, 4, 0, 3} {
			d := sinktest.NewDelivery("a", "1")
			d.Priority, d.Headers = priority, []byte(headers)
			m, err := r.message(&d, false)
			if err != nil {
				t.Fatal(err)
			}
			want := map[int16]string{1: "1", 3: "3", 4: "4"}[priority]
			if got := m.Header.Get("Postrider-Priority"); got != want {
				t.Errorf("headers %s, priority %d: told %q, want %q", headers, priority, got, want)
			}
		}
	}
}

func TestContentType(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"pg.>"}})}
	s := open(t, Config{Servers: []string{srv.ClientURL()}, Prefix: "pg."})
	own := `{"content-type":"text/xml"}`
	for i, c := range []struct {
		json          bool
		headers, want string
	}{{true, "", ""}, {false, "", "application/octet-stream"}, {false, own, "text/xml"}, {true, "", ""}, {true, own, "text/xml"}, {false, "", "application/octet-stream"}} {
		d := sinktest.NewDelivery("a", "1")
		d.JSON, d.Headers = c.json, []byte(c.headers)
		sinktest.WantKinds(t, deliver(t, s, d), sinks.KindAccepted)
		if got := r.read()[i].Headers["content-type"]; got != c.want {
			t.Errorf("JSON %t with headers %q: content type %q, want %q", c.json, c.headers, got, c.want)
		}
	}
}

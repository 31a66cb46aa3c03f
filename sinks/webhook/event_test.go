package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// parseEvents reads events in JSON and returns their messages; m is the request.
func parseEvents(m sinktest.Received, events ...[]byte) ([]sinktest.Received, error) {
	var all []sinktest.Received
	for _, text := range events {
		var e map[string]json.RawMessage
		if err := json.Unmarshal(text, &e); err != nil {
			return all, fmt.Errorf("event %q: %w", text, err)
		}
		var err error
		one := sinktest.Received{Headers: map[string]string{}}
		for name, raw := range e {
			var s string
			if name != "data" && name != "postriderattempt" && name != "postriderpriority" {
				if err := json.Unmarshal(raw, &s); err != nil {
					return all, fmt.Errorf("%s of event %q: %w", name, text, err)
				}
			}
			one.Headers[name] = s
		}
		h := one.Headers
		one.MessageID, one.Topic, one.ContentType = h["id"], h["postridertopic"], h["datacontenttype"]
		if one.Key, err = keyOf(h["subject"]); err != nil {
			return all, err
		}
		one.Payload = e["data"]
		if one.Payload == nil {
			if one.Payload, err = base64.StdEncoding.DecodeString(h["data_base64"]); err != nil {
				return all, err
			}
		}
		if err := json.Unmarshal(e["postriderattempt"], &one.Attempt); err != nil {
			return all, err
		}
		one.Subscription, err = url.PathUnescape(m.Headers["postrider-subscription"])
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}

// keyOf undoes attribute for the keys of the suite, which hold no %XX of their own where they need no encoding.
func keyOf(subject string) (string, error) {
	if strings.Contains(subject, "%0A") {
		return url.PathUnescape(subject)
	}
	return subject, nil
}

func TestBinaryEvent(t *testing.T) {
	r := new(receiver)
	s := open(t, Config{URL: serve(t, r.ServeHTTP).URL, Options: Options{Format: FormatBinary}})
	d := sinktest.NewDelivery("orders.created", `{"n":1}`)
	d.MessageID, d.Key = "5eed0123-42-1700000000000000", `"Zoë" 100%`
	d.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 67_000, time.FixedZone("", 3600))
	want := map[string]string{
		"ce-specversion": "1.0", "ce-id": "5eed0123-42-1700000000000000", "ce-source": "/postrider/5eed0123", "ce-type": "orders.created",
		"ce-time": "2026-01-02T02:04:05.000067Z", "ce-subject": "%22Zo%C3%AB%22%20100%25", "ce-partitionkey": "%22Zo%C3%AB%22%20100%25",
		"content-type": "application/json",
	}
	check := func() {
		t.Helper()
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
		got := r.last(t).Headers
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s is %q, want %q", name, got[name], value)
			}
		}
		for name := range got {
			if _, ok := want[name]; strings.HasPrefix(name, "ce-") && !ok {
				t.Errorf("%s: %q was sent", name, got[name])
			}
		}
	}
	check()

	s = open(t, Config{URL: s.url.String(), Options: Options{Format: FormatBinary, Source: "https://shop.example/orders", Type: "com.example.order"}})
	d.Key = "two\nlines"
	want["ce-source"], want["ce-type"] = "https://shop.example/orders", "com.example.order"
	want["ce-subject"], want["ce-partitionkey"] = "two%250Alines", "two%250Alines"
	check()

	d.Key = ""
	delete(want, "ce-subject")
	delete(want, "ce-partitionkey")
	check()
}

func TestStructuredEvent(t *testing.T) {
	r := new(receiver)
	s := open(t, Config{URL: serve(t, r.ServeHTTP).URL, Options: Options{Format: FormatStructured}})
	d := sinktest.NewDelivery("orders.created", `{"n":  1.50}`)
	d.MessageID, d.Key, d.Attempt = "5eed0123-42-1", "k", 3
	d.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		payload, headers string
		json             bool
		want             string // from postriderattempt on
	}{
		"json":      {`{"n":  1.50}`, ``, true, `"datacontenttype":"application/json","data":{"n":  1.50}}`},
		"null":      {`null`, ``, true, `"datacontenttype":"application/json","data":null}`},
		"lines":     {"{\n\"a\": \"b c\"\r\n}", ``, true, `"datacontenttype":"application/json","data":{"a":"b c"}}`},
		"bytes":     {"a\x00b", ``, false, `"datacontenttype":"application/octet-stream","data_base64":"YQBi"}`},
		"no bytes":  {"", ``, false, `"datacontenttype":"application/octet-stream","data_base64":""}`},
		"own type":  {`{}`, `{"Content-Type":"Application/JSON; v=1"}`, true, `"datacontenttype":"Application/JSON; v=1","data":{}}`},
		"own json":  {`{}`, `{"Content-Type":"application/vnd.x+json"}`, true, `"datacontenttype":"application/vnd.x+json","data_base64":"e30="}`},
		"not json":  {`"<a/>"`, `{"content-type":"text/xml"}`, true, `"datacontenttype":"text/xml","data_base64":"IjxhLz4i"}`},
		"extension": {`1`, `{"traceparent":"00-1","X-Shop_Id":"Zürich"}`, true, `"traceparent":"00-1","xshopid":"Zürich","datacontenttype":"application/json","data":1}`},
	} {
		d.Payload, d.JSON, d.Headers = []byte(c.payload), c.json, []byte(c.headers)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
		got := r.last(t)
		want := `{"specversion":"1.0","id":"5eed0123-42-1","source":"/postrider/5eed0123","type":"orders.created",` +
			`"time":"2026-01-02T03:04:05Z","subject":"k","partitionkey":"k","postridertopic":"orders.created","postriderattempt":3,` + c.want
		if string(got.Payload) != want || got.ContentType != "application/cloudevents+json" {
			t.Errorf("%s: sent as %s\n%s\nwant\n%s", name, got.ContentType, got.Payload, want)
		}
	}
}

// A receiver is told a priority that is not the default.
func TestPriorityIsTold(t *testing.T) {
	for priority, want := range map[int16]string{0: "", 1: "1", 2: "", 4: "4"} {
		for _, format := range []string{FormatRaw, FormatBinary, FormatStructured} {
			r := new(receiver)
			s := open(t, Config{URL: serve(t, r.ServeHTTP).URL, Options: Options{Format: format}})
			d := sinktest.NewDelivery("a", "1")
			d.Priority = priority
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
			got := r.last(t)
			header := want
			if format == FormatStructured {
				header = "" // the event says it
			}
			if got.Headers["postrider-priority"] != header {
				t.Errorf("%s, priority %d: the header says %q, want %q", format, priority, got.Headers["postrider-priority"], header)
			}
			member := `"postriderpriority":` + want + `,`
			if has := strings.Contains(string(got.Payload), `"postriderpriority"`); format == FormatStructured && (has != (want != "") || has && !strings.Contains(string(got.Payload), member)) {
				t.Errorf("priority %d: the event is %s", priority, got.Payload)
			}
		}
	}
}

func TestStructuredHeaders(t *testing.T) {
	r := new(receiver)
	s := open(t, Config{URL: serve(t, r.ServeHTTP).URL, Options: Options{Format: FormatStructured}})
	d := sinktest.NewDelivery("a", "zipped")
	d.JSON, d.Headers = false, []byte(`{"content-encoding":"gzip","X-A":"1"}`)
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
	if h := r.last(t).Headers; h["x-a"] != "1" || h["content-encoding"] != "" || h["ce-id"] != "" {
		t.Errorf("the request has the headers %v, want x-a and neither content-encoding nor ce-id", h)
	}
	if h := r.received(t)[0].Headers; h["contentencoding"] != "gzip" {
		t.Errorf("the event has the attributes %v, want contentencoding", h)
	}
	for headers, reason := range map[string]string{
		`{"X-Id":"1","x_id":"2"}`: `would both be the attribute "xid"`,
		`{"-":"1"}`:               `header "-" cannot be an attribute`,
		`{"Subject":"1"}`:         `header "Subject" cannot be an attribute`,
		`{"data":"1"}`:            `cannot be an attribute`,
		`{"ce-id":"1"}`:           `header "ce-id" is reserved`,
	} {
		d.Headers = []byte(headers)
		out := sinktest.Deliver(t.Context(), s, d)
		sinktest.WantKinds(t, out, sinks.KindPermanent)
		if !strings.Contains(out[0].Error(), reason) {
			t.Errorf("%s: the reason is %q, want %q", headers, out[0], reason)
		}
	}
}

// Whatever is in a message, its event is one line of JSON that holds it all, and its attributes are what CloudEvents allows.
func TestAnyEvent(t *testing.T) {
	s := open(t, Config{URL: "http://host.invalid"})
	rapid.Check(t, func(t *rapid.T) {
		d := sinktest.NewDelivery(rapid.StringMatching(`[a-z"\\<&]{1,8}`).Draw(t, "topic"), "")
		d.Key = string(rapid.SliceOf(rapid.OneOf(rapid.Byte(), rapid.ByteRange('a', 'z'))).Draw(t, "key"))
		d.Payload, d.JSON = rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), false
		if rapid.Bool().Draw(t, "json") {
			d.Payload, _ = json.Marshal(rapid.String().Draw(t, "text"))
			d.JSON = true
		}
		text, err := s.event(&d, nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(text, "\r\n") || !utf8.Valid(text) {
			t.Fatalf("%q is not one line of UTF-8", text)
		}
		got, err := parseEvents(sinktest.Received{}, text)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[0].Payload, d.Payload) || got[0].Topic != d.Topic || got[0].MessageID != d.MessageID {
			t.Fatalf("%q does not hold the message %+v", text, d.Message)
		}
		subject := got[0].Headers["subject"]
		if strings.ContainsFunc(subject, notInAttribute) {
			t.Fatalf("subject %q holds what an attribute may not hold", subject)
		}
		if decoded, err := url.PathUnescape(subject); subject != d.Key && (err != nil || decoded != d.Key) {
			t.Fatalf("subject %q is not the key %q", subject, d.Key)
		}
		header := encodeAttribute(subject)
		if decoded, err := url.PathUnescape(header); err != nil || decoded != subject || strings.ContainsAny(header, "\" ") {
			t.Fatalf("header %q does not decode to %q", header, subject)
		}
	})
}

package sinktest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// Run runs the suite. It makes a harness of its own for each test.
func Run(t *testing.T, newHarness func(t *testing.T) *Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Harness)
	}{
		{"payloads arrive byte for byte", payloads},
		{"key and headers arrive", keyAndHeaders},
		{"a redelivery has the same id", redelivery},
		{"an empty batch", emptyBatch},
		{"a full batch", fullBatch},
		{"many at once", concurrent},
		{"one bad among good", oneBadAmongGood},
		{"cancelled before", cancelledBefore},
		{"cancelled while hanging", cancelledWhileHanging},
		{"down and up again", downAndUp},
		{"close leaves nothing behind", closeLeavesNothing},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newHarness(t)) })
	}
}

func payloads(t *testing.T, h *Harness) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	s := h.open(t)
	for _, c := range []struct {
		payload string
		json    bool
	}{
		{`{}`, true},
		{`null`, true},
		{`"text"`, true},
		{`{"b": 1, "a":  [1.50, 1e3], "é": "☃ <&>"}`, true},
		{`{"long": "` + strings.Repeat("x", 100_000) + `"}`, true},
		{string(all), false},
		{"", false},
		{"plain\ntext", false},
	} {
		d := NewDelivery("payload.kinds", c.payload)
		d.JSON = c.json
		WantKinds(t, Deliver(t.Context(), s, d), sinks.KindAccepted)
		got, ok := h.byID()[d.MessageID]
		if !ok {
			t.Fatalf("%.40q was accepted and did not arrive", c.payload)
		}
		if !bytes.Equal(got.Payload, d.Payload) {
			t.Errorf("sent %.60q, arrived %.60q", d.Payload, got.Payload)
		}
		want := "application/octet-stream"
		if c.json {
			want = "application/json"
		}
		if got.ContentType != want {
			t.Errorf("%.40q arrived as %q, want %q", c.payload, got.ContentType, want)
		}
	}
}

func keyAndHeaders(t *testing.T, h *Harness) {
	s := h.open(t)
	for _, key := range []string{"", "customer-42", "Zoë/ключ 100%", "two\nlines", " blanks "} {
		d := NewDelivery("orders.created", `{"n":1}`)
		d.Key = key
		d.Headers = []byte(`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"shop=1,at@vendor=t61rcWkgMzE","baggage":"tenant=7;hidden,name=Zo%C3%AB","X-Shop":"Zürich ☃","empty":""}`)
		d.Attempt = 3
		WantKinds(t, Deliver(t.Context(), s, d), sinks.KindAccepted)
		got := h.byID()[d.MessageID]
		if got.Key != key || got.Topic != d.Topic {
			t.Errorf("arrived with topic %q and key %q, want %q and %q", got.Topic, got.Key, d.Topic, key)
		}
		if !h.NoAttempt && (got.Attempt != 3 || got.Subscription != d.Subscription) {
			t.Errorf("arrived as attempt %d of %q, want 3 of %q", got.Attempt, got.Subscription, d.Subscription)
		}
		own, err := d.HeaderMap()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range own {
			if v, ok := got.Headers[strings.ToLower(name)]; !ok || v != want {
				t.Errorf("header %q arrived as %q, want %q", name, v, want)
			}
		}
	}
}

func redelivery(t *testing.T, h *Harness) {
	s := h.open(t)
	d := NewDelivery("orders.paid", `{"n":1}`)
	d.Key = "k"
	for d.Attempt = 1; d.Attempt <= 2; d.Attempt++ {
		WantKinds(t, Deliver(t.Context(), s, d), sinks.KindAccepted)
	}
	got := h.Received()
	if len(got) == 0 {
		t.Fatal("nothing arrived")
	}
	for _, r := range got {
		if r.MessageID != d.MessageID {
			t.Errorf("arrived with id %q, want %q each time", r.MessageID, d.MessageID)
		}
	}
}

func emptyBatch(t *testing.T, h *Harness) {
	h.open(t).Deliver(t.Context(), nil, nil)
	if got := h.Received(); len(got) != 0 {
		t.Errorf("%d messages arrived, want none", len(got))
	}
}

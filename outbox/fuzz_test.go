package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCheckJSON: what passes is JSON that jsonb can hold: valid UTF-8, no zero characters, no halves of surrogate pairs, no number
// beyond numeric. (Against PostgreSQL itself: TestCheckJSONIsWhatJsonbTakes.)
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{``, `null`, `{"a":[1,-0.5e3,"x"]}`, `"\u0000"`, `"\\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, `"\ud83d\n"`, `"\ud83d\ud83d"`,
		`1e16000`, `1e-99999`, `[1e+5, 2]`, "\"\xff\"", `"\uD83D\uDE0`, ` 1 `, `{"\u0000":1}`, `"\"\\\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkJSON(text) != nil {
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) {
			t.Fatalf("%q passes", text)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		replaced := bytes.Count(text, []byte("\uFFFD")) + strings.Count(strings.ToLower(string(text)), `\ufffd`)
		for {
			token, err := d.Token()
			if err != nil {
				break
			}
			switch v := token.(type) {
			case string:
				replaced -= strings.Count(v, "\uFFFD")
				if strings.Contains(v, "\x00") {
					t.Fatalf("%q passes with a zero character", text)
				}
			case json.Number:
				if len(v) > maxDigits {
					t.Fatalf("%.60q… passes with a number of %d digits", text, len(v))
				}
			}
		}
		if replaced < 0 {
			t.Fatalf("%q passes with half a surrogate pair", text)
		}
	})
}

// FuzzEncode: a message is refused, or becomes a row that the database takes: a valid topic, texts without zero bytes, one of
// payload and body, headers that read as they were given.
func FuzzEncode(f *testing.F) {
	f.Add("orders.created", "k", `{"a":1}`, []byte(nil), "X-A", "b", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1", "b=2")
	f.Add("a", "", "", []byte{}, "", "v", "", "", "")
	f.Add("a.*", "\x00", `"\u0000"`, []byte("x"), "TraceParent", "\xff", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "\x00", "a=\xff")
	f.Fuzz(func(t *testing.T, topic, key, payload string, body []byte, name, value, trace, state, baggage string) {
		m := Message{Topic: topic, Key: key, Headers: map[string]string{name: value}}
		if payload != "" {
			m.Payload = json.RawMessage(payload)
		} else {
			m.Body = body
		}
		found := map[string]string{traceHeader: trace, stateHeader: state, baggageHeader: baggage}
		r, err := m.encode(WithTraceFrom(t.Context(), func(context.Context) map[string]string { return found }))
		if err != nil {
			return
		}
		if r.topic != topic || (r.key == nil) != (key == "") || (r.payload == nil) == (r.body == nil) {
			t.Fatalf("%+v became %+v", m, r)
		}
		for _, s := range []*string{r.key, r.payload, r.headers} {
			if s != nil && (!utf8.ValidString(*s) || strings.Contains(*s, "\x00")) {
				t.Fatalf("%+v holds the text %q", m, *s)
			}
		}
		want := map[string]string{name: value}
		if validTraceparent(trace) && !strings.EqualFold(name, traceHeader) {
			want[traceHeader] = trace
			if validTracestate(state) && !strings.EqualFold(name, stateHeader) {
				want[stateHeader] = state
			}
		}
		if validBaggage(baggage) && !strings.EqualFold(name, baggageHeader) {
			want[baggageHeader] = baggage
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(*r.headers), &got); err != nil || !maps.Equal(got, want) {
			t.Fatalf("headers %q became %s, %v", want, *r.headers, err)
		}
		if err := checkJSON([]byte(*r.headers)); err != nil {
			t.Fatalf("headers %s: %v", *r.headers, err)
		}
	})
}

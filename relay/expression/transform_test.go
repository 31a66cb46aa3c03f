package expression

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

func made(t testing.TB, payload, headers, topic string) *Transform {
	t.Helper()
	to := &Transform{}
	for text, compile := range map[string]func() (err error){
		payload: func() (err error) { to.Payload, err = Payload(payload); return err },
		headers: func() (err error) { to.Headers, err = Headers(headers); return err },
		topic:   func() (err error) { to.Topic, err = Topic(topic); return err },
	} {
		if text == "" {
			continue
		}
		if err := compile(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return to
}

// What payloads become, to the byte.
func TestPayload(t *testing.T) {
	for text, want := range map[string]string{
		`payload.customer`: `{"name":"Ann","tags":["a","b"]}`,
		`{"sum": payload.total * 2, "id": payload.id, "half": double(payload.total) / 7.0, "b": {1: [], true: {}}}`: `{"b":{"1":[],"true":{}},"half":17.142857142857142,"id":42,"sum":240}`,
		`payload.items.map(i, i.n)`: `[1,2]`, `[[[]], [1]]`: `[[[]],[1]]`, `payload["odd name"] + "<\n>"`: `"a\"é<\n>"`,
		`[null, true, 1u, -1, 1.5, 1e30, "x", b"\x00\x01", created_at, duration("90s")]`: `[null,true,1,-1,1.5,1e+30,"x","AAE=","2026-05-04T10:00:00Z","90s"]`,
		`{?"a": payload.?a, ?"id": payload.?id}`:                                         `{"id":42}`,
		`payload.?a`:                                                                     "!its value has an optional value in it, which may be none: orValue(…) says what there is instead",
		`payload.huge`:                                                                   "!the number 1e400… is too large",
		`[1.0 / 0.0]`:                                                                    "!its value has the number +Inf in it, which JSON does not know",
		`{1: "a", "1": "b"}`:                                                             "!its value has the key ",
		`{"type": type(payload)}`:                                                        "!its value has a type in it, which JSON does not know",
		`payload.nothing`:                                                                "!no such key: nothing, which has(…) would ask for first",
		`payload.?customer.?name.orValue("nobody")`:                                      `"Ann"`,
	} {
		m, _, err := made(t, text, "", "").Of(order(), new(Memo))
		got := ""
		if err != nil {
			got = "!" + strings.TrimPrefix(err.Error(), "payload: ")
		} else {
			got = string(m.Payload)
			if !m.JSON || !json.Valid(m.Payload) {
				t.Errorf("%s: %s is no JSON", text, got)
			}
		}
		if got != want && !(strings.HasPrefix(want, "!") && strings.HasPrefix(got, want)) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// The message stays as it is, and what is made has all else of it. Bytes may become JSON.
func TestTransform(t *testing.T) {
	m := order()
	was := *m
	to, cost, err := made(t, `{"id": payload.id}`, `{"x-tenant": null, "source": topic, "region": headers.region + "-1"}`, `"eu." + topic`).Of(m, new(Memo))
	if err != nil || cost == 0 {
		t.Fatalf("cost %d, %v", cost, err)
	}
	want := was
	want.Payload, want.Headers, want.Topic = []byte(`{"id":42}`), []byte(`{"region":"eu-1","source":"orders.created"}`), "eu.orders.created"
	if fmt.Sprintf("%+v", *to) != fmt.Sprintf("%+v", want) {
		t.Errorf("it is\n%+v, want\n%+v", *to, want)
	}
	if fmt.Sprintf("%+v", *m) != fmt.Sprintf("%+v", was) {
		t.Error("the message has changed")
	}
	body := &sinks.Message{Payload: []byte{1, 2}, Headers: []byte(`{"a": "b"}`)}
	if to, _, err := made(t, `{"bytes": body}`, `{"a": null}`, "").Of(body, new(Memo)); err != nil || string(to.Payload) != `{"bytes":"AQI="}` || !to.JSON || to.Headers != nil {
		t.Errorf("%+v, %v", to, err)
	}
	if to, _, err := made(t, ``, `{"n": "1"}`, "").Of(body, new(Memo)); err != nil || !bytes.Equal(to.Payload, body.Payload) || to.JSON || string(to.Headers) != `{"a":"b","n":"1"}` {
		t.Errorf("%+v, %v", to, err)
	}
	for text, want := range map[string]string{`{"n": payload.id}`: `headers: "n": must be a text, or null to take it out, and is of type int: string(…) makes a text of it`,
		`payload.id`: `headers: its value must be texts by name`, `{payload.id: "a"}`: `headers: its value must be texts by name`} {
		if _, _, err := made(t, "", text, "").Of(m, new(Memo)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{`"a b"`: `topic: its value is no topic: `, `payload.id`: "topic: its value must be a text", `""`: "topic: its value is no topic: "} {
		if _, _, err := made(t, "", "", text).Of(m, new(Memo)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, compile := range map[string]func(string) (*Program, error){`1`: Headers, `[1]`: Topic, `payload.`: Payload, ` `: Payload} {
		if _, err := compile(text); err == nil || !strings.HasPrefix(err.Error(), "line 1, column ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is made of a small message is small, whatever the expression repeats; of a large one it may be twice as large.
func TestWhatIsMadeIsBounded(t *testing.T) {
	m := order()
	m.Payload = []byte(`{"text": "` + strings.Repeat("é", 10_000) + `", "list": [1,2,3,4]}`)
	for text, fits := range map[string]bool{`[payload, payload]`: true, `payload.list.map(i, payload)`: false, `payload.list.map(i, payload.list.map(i, payload))`: false} {
		_, _, err := made(t, text, "", "").Of(m, new(Memo))
		if (err == nil) != fits || err != nil && err.Error() != "payload: its value has more than 65536 bytes as JSON" {
			t.Errorf("%s: %v", text, err)
		}
	}
	m.Payload = []byte(`{"text": "` + strings.Repeat("x", 100_000) + `"}`)
	for text, fits := range map[string]bool{`payload`: true, `[payload, payload, 1]`: false, `{"text": payload.text.size()}`: true} {
		if _, _, err := made(t, text, "", "").Of(m, new(Memo)); (err == nil) != fits {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, _, err := made(t, "", `{"x": payload.text}`, "").Of(m, new(Memo)); err == nil || err.Error() != "headers: its value has more than 65536 bytes as JSON" {
		t.Errorf("%v", err)
	}
}

// Whoever makes the same of a message shares it, and gets the same bytes in any case.
func TestWhatIsMadeIsShared(t *testing.T) {
	var memo Memo
	m := order()
	to := made(t, `{"b": payload.customer, "a": payload.items, "c": headers}`, `{"q": "1", "p": "2"}`, "")
	first, cost, err := to.Of(m, &memo)
	if err != nil || cost == 0 {
		t.Fatal(cost, err)
	}
	if again, cost, err := made(t, `{"b": payload.customer, "a": payload.items, "c": headers}`, `{"q": "1", "p": "2"}`, "").Of(m, &memo); err != nil || cost > 0 || &again.Payload[0] != &first.Payload[0] {
		t.Errorf("it is made again: cost %d, %v", cost, err)
	}
	for range 20 {
		if again, _, err := to.Of(m, new(Memo)); err != nil || !bytes.Equal(again.Payload, first.Payload) || !bytes.Equal(again.Headers, first.Headers) {
			t.Fatalf("it is %s once and %s another time, %v", first.Payload, again.Payload, err)
		}
	}
}

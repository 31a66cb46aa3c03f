package sinks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
)

// FuzzEncodeHeader: whatever a key holds, it arrives, as visible ASCII.
func FuzzEncodeHeader(f *testing.F) {
	for _, s := range []string{"", "customer-42", "100%", "%41", "a\r\nHost: b", "é", "a+b c", "\xff\x00\x7f~!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		enc := EncodeHeader(s)
		for i := range len(enc) {
			if enc[i] <= ' ' || enc[i] > '~' {
				t.Fatalf("%q was encoded as %q", s, enc)
			}
		}
		if back, err := url.PathUnescape(enc); err != nil || back != s {
			t.Fatalf("%q was encoded as %q, that reads as %q, %v", s, enc, back, err)
		}
		if plain := !strings.Contains(s, "%") && enc == s; plain && EncodeHeader(enc) != enc {
			t.Fatalf("%q is not left alone", s)
		}
	})
}

// FuzzTextHeaders: headers that are let through go over a wire of text lines and come back as they were, but for blanks around
// values; nothing else comes with them.
func FuzzTextHeaders(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"a":"b","X-C":"é \t"}`, `{"a":"b\r\nc: d"}`, `{"a: b\r\nc":"d"}`, `{"A":"1","a":"2"}`, `{"":"x"}`, `null`,
		`{"a":"\u0000"}`, `{"a":"\u0085\u2028"}`, `{"a":1}`, `[]`, `{"content-length":"5"}`, `{"a":" b "}`, `{"a":"1","a":"2"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, headers []byte) {
		h, err := (&Message{Headers: headers}).TextHeaders()
		if err != nil {
			if h != nil {
				t.Errorf("%q gives %q and %v", headers, h, err)
			}
			return
		}
		var want map[string]string
		if len(headers) > 0 && json.Unmarshal(headers, &want) != nil {
			t.Fatalf("%q is let through", headers)
		}
		if len(want) > 0 && !maps.Equal(h, want) {
			t.Fatalf("%q gives %q", headers, h)
		}
		if got := overTheWire(t, h); !maps.Equal(got, trimmed(h)) {
			t.Fatalf("%q arrives as %q", headers, got)
		}
	})
}

// overTheWire writes the headers as HTTP and NATS do, and reads them again.
func overTheWire(t *testing.T, h map[string]string) map[string]string {
	t.Helper()
	sent := make(http.Header)
	for name, value := range h {
		sent[name] = []string{value}
	}
	var wire bytes.Buffer
	if err := sent.Write(&wire); err != nil {
		t.Fatal(err)
	}
	wire.WriteString("\r\nbody")
	read := bufio.NewReader(&wire)
	received, err := textproto.NewReader(read).ReadMIMEHeader()
	if err != nil {
		t.Fatalf("%q cannot be read: %v", h, err)
	}
	if rest, err := read.ReadString(0); rest != "body" {
		t.Fatalf("%q leaves %q, %v", h, rest, err)
	}
	got := make(map[string]string)
	for name, values := range received {
		got[strings.ToLower(name)] = strings.Join(values, "|")
	}
	return got
}

func trimmed(h map[string]string) map[string]string {
	want := make(map[string]string)
	for name, value := range h {
		want[strings.ToLower(name)] = textproto.TrimString(value)
	}
	return want
}

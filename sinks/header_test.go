package sinks

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEncodeHeader(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		"customer-42":  "customer-42",
		"a@b.example":  "a@b.example",
		"a+b":          "a+b",
		"100%":         "100%25",
		" x ":          "%20x%20",
		"é":            "%C3%A9",
		"a\r\nHost: b": "a%0D%0AHost:%20b",
	} {
		if got := EncodeHeader(in); got != want {
			t.Errorf("EncodeHeader(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEncodeHeaderIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "in"))
		enc := EncodeHeader(in)
		if i := strings.IndexFunc(enc, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
			t.Fatalf("EncodeHeader(%q) = %q is not visible ASCII", in, enc)
		}
		if out, err := url.PathUnescape(enc); err != nil || out != in {
			t.Fatalf("EncodeHeader(%q) = %q decodes to %q, %v", in, enc, out, err)
		}
	})
}

func TestTextHeaders(t *testing.T) {
	for headers, wantErr := range map[string]string{
		``:                       "",
		`{}`:                     "",
		`{"a":"b","X-C":"é \t"}`: "",
		`[1]`:                    "not a flat JSON object of strings",
		`{"a":1}`:                "not a flat JSON object of strings",
		`{"":"b"}`:               "empty name",
		`{"a b":"c"}`:            `header name "a b" holds ' '`,
		`{"a:b":"c"}`:            `header name "a:b" holds ':'`,
		`{"a":"b\nc"}`:           `header "a" holds the control character '\n'`,
		`{"X-A":"1","x-a":"2"}`:  `headers "X-A" and "x-a" differ in case only`,
	} {
		m := &Message{Headers: []byte(headers)}
		_, err := m.TextHeaders()
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("TextHeaders of %s: error %v, want %q", headers, err, wantErr)
		}
	}
}

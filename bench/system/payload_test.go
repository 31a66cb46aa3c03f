package system

import (
	"encoding/json"
	"testing"
)

func TestPayload(t *testing.T) {
	for _, n := range []int64{1, 9_999_999, 1 << 40} {
		b := Payload(n)
		if len(b) != PayloadBytes || !json.Valid(b) || Number(b) != n {
			t.Errorf("%d: %d bytes, number %d: %s", n, len(b), Number(b), b)
		}
	}
	for text, want := range map[string]int64{`{"n": 12, "pad": ""}`: 12, `{"args":{"n":7}}`: 7, `{}`: 0, `{"n":`: 0, `{"n":"x"}`: 0} {
		if got := Number([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

package subscription_test

import (
	"encoding/json"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
)

// FuzzParseSettings: what is read from the settings column is valid, and is read as the same again; else the error says so.
func FuzzParseSettings(f *testing.F) {
	for _, text := range []string{`{}`, `{"ordering":"strict","on_dead":"hold","max_attempts":3,"lanes":2,"batch":1}`, `{"timeout":"1m30s"}`, `{"timeout":5}`,
		`{"backoff_initial":"2h"}`, `{"backoff_initial":"1h","backoff_max":"1m"}`, `{"lanes":-1}`, `{"x":1}`, ``, `null`, `[]`, `{"max_parked":1e3}`,
		`{"timeout":"-1s"}`, `{"backoff_max":"2562047h47m16.854775807s"}`, `{} {}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := subscription.ParseSettings(text)
		if err != nil {
			return
		}
		again := s.WithDefaults()
		if err := again.Validate(); err != nil || !again.Equal(s) {
			t.Fatalf("%s is %+v, then %+v, %v", text, s, again, err)
		}
		if s.Timeout < 0 || s.BackoffInitial < 0 || s.BackoffMax < s.BackoffInitial || s.MaxAttempts < 1 || s.MaxParked < 1 || s.Lanes < 0 || s.Batch < 0 {
			t.Fatalf("%s is %+v", text, s)
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := subscription.ParseSettings(written); err != nil || !back.Equal(s) {
			t.Fatalf("%s is %+v, written as %s, that is %+v, %v", text, s, written, back, err)
		}
		for attempts := range 70 {
			if d := s.Backoff(attempts); d < 0 {
				t.Fatalf("%s waits %s after %d attempts", text, d, attempts)
			}
		}
	})
}

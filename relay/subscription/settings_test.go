package subscription_test

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
)

func TestSettingsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{"backoff_schedule": ["1s"], "backoff_max": "1h"}`: "backoff_schedule [1s]: excludes backoff_initial and backoff_max",
		`{"backoff_schedule": ["-1s"]}`:                     "backoff_schedule [-1s]: each wait must be from 0s",
		`{"backoff_schedule": ["9000h"]}`:                   "each wait must be from 0s to 8784h0m0s",
		`{"backoff_schedule": ["soon"]}`:                    `duration "soon": must be a number with a unit`,
		`{"linger": "-1s"}`:                                 "linger -1s: must be from 0s to 10m0s",
		`{"linger": "1h"}`:                                  "linger 1h0m0s: must be from 0s to 10m0s",
		`{"options": [1]}`:                                  "options: must be a JSON object",
		`{"option": {}}`:                                    `settings: unknown key "option": known here: ordering, on_dead, keep_attempts, max_attempts`,
		`{"max_attemps": 3}`:                                `did you mean "max_attempts"?`,
		`{"lanes": "two"}`:                                  `settings: lanes: must be a whole number, not a text`,
		`{"timeout": 30}`:                                   `settings: timeout: duration "30": must be a number with a unit, such as 30s or 5m`,
	} {
		if _, err := subscription.ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestSettingsAreEqual(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		equal bool
	}{
		{`{}`, `{}`, true},
		{`{"options": {"a": 1, "b": [1, 2]}}`, `{"options": {"b":[1,2],"a":1.0}}`, true},
		{`{"options": {}}`, `{}`, true},
		{`{"options": {"a": 1}}`, `{}`, false},
		{`{"backoff_schedule": ["60s"]}`, `{"backoff_schedule": ["1m"]}`, true},
		{`{"backoff_schedule": ["60s"]}`, `{}`, false},
		{`{"linger": "1s"}`, `{}`, false},
		{`{"ordering": "none"}`, `{}`, false},
		{`{"on_dead": "hold"}`, `{}`, false},
		{`{"max_attempts": 1}`, `{}`, false},
		{`{"lanes": 1}`, `{}`, false},
		{`{"batch": 1}`, `{}`, false},
		{`{"timeout": "1s"}`, `{}`, false},
		{`{"backoff_initial": "1s"}`, `{}`, false},
		{`{"backoff_max": "1s"}`, `{}`, false},
		{`{"max_parked": 1}`, `{}`, false},
		{`{"max_scheduled": 1}`, `{}`, false},
	} {
		a, errA := subscription.DecodeSettings([]byte(c.a))
		b, errB := subscription.DecodeSettings([]byte(c.b))
		if errA != nil || errB != nil || a.Equal(b) != c.equal || b.Equal(a) != c.equal {
			t.Errorf("%s and %s: equal %t (%v, %v), want %t", c.a, c.b, a.Equal(b), errA, errB, c.equal)
		}
	}
}

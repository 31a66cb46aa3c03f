package worker

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzAnswer: an answer that is valid JSON is read the quick way as encoding/json reads it.
func FuzzAnswer(f *testing.F) {
	for _, seed := range answers {
		f.Add(seed)
	}
	f.Add(`{"jobs":[{"id":1},{"id":"1"}]}`)
	f.Add(`{"jobs":[{"payload":null,"headers":null,"body":null}],"jobs":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		quick, slow := new(answer), new(answer)
		if !json.Valid([]byte(text)) || !scanAnswer(text, quick) {
			return
		}
		if err := json.Unmarshal([]byte(text), slow); err != nil {
			t.Fatalf("%q is read as %+v, and encoding/json says: %v", text, quick, err)
		}
		same(t, text, quick, slow)
	})
}

func same(t *testing.T, text string, quick, slow *answer) {
	t.Helper()
	if len(quick.Jobs)+len(slow.Jobs)+len(quick.Items)+len(slow.Items)+len(quick.Lost)+len(slow.Lost)+len(quick.Cancel)+len(slow.Cancel) == 0 {
		return
	}
	a, err := json.Marshal(quick)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(slow)
	if err != nil {
		t.Fatal(err)
	}
	var one, other any
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil {
		t.Fatalf("%s, %s", a, b)
	}
	emptied(one)
	emptied(other)
	if !reflect.DeepEqual(one, other) {
		t.Fatalf("%q is read as %s, and encoding/json reads %s", text, a, b)
	}
}

// emptied takes away what is nothing, whichever way.
func emptied(v any) {
	m, ok := v.(map[string]any)
	for name, value := range m {
		if list, isList := value.([]any); value == nil || isList && len(list) == 0 {
			delete(m, name)
		}
	}
	if list, isList := v.([]any); !ok && isList {
		for _, one := range list {
			emptied(one)
		}
	}
}

var answers = []string{
	`{"jobs":[{"subscription":"mail","id":18,"token":"1z9k","topic":"mail.welcome","key":"c-\"1\" é","payload":{"to":"a@shop.example","list":[1,2,{"x":"]}\\"}]},
		"headers":{"tenant":"a"},"created_at":"2026-01-31T12:00:00.123456Z","priority":2,"attempt":1,"max_attempts":20,"deadline":"2026-01-31T12:05:00.000Z"},
		{"subscription":"mail","id":19,"token":"x","topic":"raw","body":"AP8=","created_at":"2026-01-31T12:00:00Z","priority":4,"attempt":3,"max_attempts":20,"deadline":"2026-01-31T12:05:00.5Z"}],"quiet":true}`,
	`{"items":[{"subscription":"mail","id":18,"answer":"ok"},{"subscription":"mail","id":19,"answer":"late"}],"jobs":[],"quiet":false}`,
	`{"cancel":[],"lost":[{"subscription":"mail","id":18,"token":"1z9k"}],"quiet":false}`,
}

// TestOrdinaryAnswersAreReadQuickly: and nothing of them is lost.
func TestOrdinaryAnswersAreReadQuickly(t *testing.T) {
	for _, text := range answers {
		quick, slow := new(answer), new(answer)
		if !scanAnswer(text, quick) {
			t.Errorf("%s is read the slow way", text)
		}
		if err := json.Unmarshal([]byte(text), slow); err != nil {
			t.Fatal(err)
		}
		same(t, text, quick, slow)
	}
}

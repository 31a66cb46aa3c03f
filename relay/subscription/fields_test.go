package subscription_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

// A setting of a subscription is one entry: settings column, environment, file, listing, the page's table, defaults, checks, comparison and
// redaction follow.
func TestOneEntryIsASetting(t *testing.T) {
	subscription.AddSetting(t, "courage", "How brave it is.", 99)
	t.Setenv("POSTRIDER_SINK", "stdout:")
	t.Setenv("POSTRIDER_TOPICS", ">")
	t.Setenv("POSTRIDER_COURAGE", "12")
	s, err := config.Load("")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := s.Specs()
	if err != nil || len(specs) != 1 || specs[0].Settings.Batch != 12 {
		t.Fatalf("the environment means %+v, %v", specs, err)
	}
	if text, err := specs[0].Settings.MarshalJSON(); err != nil || !strings.Contains(string(text), `"courage":12`) {
		t.Errorf("it is written as %s, %v", text, err)
	}
	for _, v := range s.Variables() {
		if v.Name == "POSTRIDER_COURAGE" && (v.Value != "12" || v.Help != "How brave it is.") {
			t.Errorf("it is listed as %+v", v)
		}
	}
	if !strings.Contains(config.Markdown(), "| `POSTRIDER_COURAGE` |  | How brave it is. |") {
		t.Error("the page's table lacks it")
	}
	if got := string(destination.RedactSettings([]byte(`{"courage":5,"curage":"geheim"}`))); got != `{"courage":5,"curage":"xxxxx"}` {
		t.Errorf("it is shown as %s", got)
	}
	if d := (subscription.Settings{}).WithDefaults(); d.Batch != 7 {
		t.Errorf("its default is %d", d.Batch)
	}
	file := filepath.Join(t.TempDir(), "subs.yaml")
	read := func(value string) ([]subscription.Spec, error) {
		if err := os.WriteFile(file, []byte("subscriptions:\n  - name: a\n    topics: [a]\n    sink: 'stdout:'\n    courage: "+value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.ReadFile(file, destination.CheckElsewhere)
	}
	if specs, err := read("5"); err != nil || specs[0].Settings.Batch != 5 || specs[0].Settings.Equal(subscription.Settings{}) {
		t.Errorf("the file means %+v, %v", specs, err)
	}
	for value, want := range map[string]string{"100": ":5: courage 100: must be from 1 to 99", "much": `:5: courage "much": must be a whole number, at least 1`} {
		if _, err := read(value); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s is refused with %v, want …%s", value, err, want)
		}
	}
}

// Every member of Settings has an entry, and none has two.
func TestEveryMemberHasAnEntry(t *testing.T) {
	var full subscription.Settings
	seen := map[string]bool{}
	for _, f := range subscription.Fields {
		if seen[f.Name] || f.Help == "" {
			t.Errorf("%s is there twice or has no help", f.Name)
		}
		seen[f.Name] = true
		text := map[subscription.Shape]string{subscription.List: "5s", subscription.Object: `{"a":1}`, subscription.Table: `{"in_flight":1}`}[f.Shape]
		for _, try := range []string{text, "3", "3s", "true", "hold", "strict"} {
			if raw, err := f.Read(try); err == nil && f.Decode(&full, raw) == nil && f.Check(&full) == nil && f.JSON(&full) != nil {
				break
			}
		}
	}
	for i, v := 0, reflect.ValueOf(full); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("no entry sets %s", v.Type().Field(i).Name)
		}
	}
}

// Where each message waits for all before it, none can go first.
func TestPrioritiesExcludeStrict(t *testing.T) {
	_, err := subscription.ParseSettings([]byte(`{"priorities": true, "ordering": "strict"}`))
	if err == nil || !strings.Contains(err.Error(), "priorities true: excludes ordering strict") {
		t.Errorf("strict with priorities: %v", err)
	}
	if s, err := subscription.ParseSettings([]byte(`{"priorities": true}`)); err != nil || !s.Priorities {
		t.Errorf("with priorities: %+v, %v", s, err)
	}
}

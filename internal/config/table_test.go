package config

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{"0": 0, "12": 12, "64MiB": 64 << 20, "1gb": 1e9, "3 KiB": 3072, "7B": 7} {
		var b ByteSize
		if err := b.Decode(text); err != nil || b != want {
			t.Errorf("%q is %d, %v, want %d", text, b, err, want)
		}
	}
}

const beginSettings, endSettings = "<!-- settings:begin -->", "<!-- settings:end -->"

// docs/settings.md holds exactly the table that the code prints: `postrider settings --markdown`.
func TestPageHasTheSettings(t *testing.T) {
	text, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), beginSettings)
	table, _, closed := strings.Cut(rest, endSettings)
	if !ok || !closed {
		t.Fatalf("docs/settings.md has no %s … %s", beginSettings, endSettings)
	}
	want := Markdown()
	if strings.TrimSpace(table) != strings.TrimSpace(want) {
		t.Errorf("the table of settings in docs/settings.md is not what `postrider settings --markdown` prints:\n%s", firstDifference(table, want))
	}
}

func firstDifference(is, want string) string {
	a, b := strings.Split(strings.TrimSpace(is), "\n"), strings.Split(strings.TrimSpace(want), "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return "want: " + b[i] + "\nis:   " + strings.Join(a[min(i, len(a)):min(i+1, len(a))], "")
		}
	}
	return "it has more lines: " + strings.Join(a[len(b):], "\n")
}

func TestEveryVariableHasADescription(t *testing.T) {
	var names []string
	for _, v := range new(Settings).Variables() {
		names = append(names, v.Name)
		if v.Help == "" {
			t.Errorf("%s has no description", v.Name)
		}
	}
	for _, want := range []string{"POSTRIDER_DATABASE_URL", "POSTRIDER_ON_DEAD", "POSTRIDER_WAL_BUDGET", "POSTRIDER_HTTP_ADDR"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
}

// A setting is one member of the struct: environment, default, bounds, redaction, listing and the page's table follow.
func TestOneMemberIsASetting(t *testing.T) {
	type more struct {
		Settings
		Courage duration `split_words:"true" default:"3s" min:"1s" max:"1m" desc:"How brave it is."`
		Friend  Text     `split_words:"true" show:"url" desc:"Whom it asks | first."`
		Mood    Text     `split_words:"true" default:"good" one:"good, bad" desc:"How it feels."`
	}
	load := func(env map[string]string) (m more, err error) {
		for name, value := range env {
			t.Setenv(name, value)
		}
		if err = read(&m); err == nil {
			err = check(&m)
		}
		return m, err
	}
	m, err := load(map[string]string{"POSTRIDER_COURAGE": " ", "POSTRIDER_FRIEND": "https://u:geheim@h/?token=geheim", "POSTRIDER_MOOD": ""})
	if err != nil || m.Courage != duration(3*time.Second) || m.Mood != "good" {
		t.Fatalf("read as %+v, %v", m, err)
	}
	values := map[string]string{}
	for _, v := range variables(&m, &m.OfSubscription) {
		values[v.Name] = v.Value
	}
	if values["POSTRIDER_COURAGE"] != "3s" || values["POSTRIDER_FRIEND"] != "https://xxxxx@h/?token=xxxxx" {
		t.Errorf("listed as %q", values)
	}
	if table := markdown(&m); !strings.Contains(table, "| `POSTRIDER_COURAGE` | `3s` | How brave it is. |\n| `POSTRIDER_FRIEND` |  | Whom it asks \\| first. |\n") {
		t.Errorf("documented as\n%s", table)
	}
	for value, want := range map[string]string{"500ms": "POSTRIDER_COURAGE=500ms: must be at least 1s", "2m": "POSTRIDER_COURAGE=2m: must be at most 1m", "much": "POSTRIDER_COURAGE=much: must be a number with a unit"} {
		if _, err := load(map[string]string{"POSTRIDER_COURAGE": value}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s is refused with %v, want %s", value, err, want)
		}
	}
	if _, err := load(map[string]string{"POSTRIDER_COURAGE": "", "POSTRIDER_MOOD": "odd"}); err == nil || err.Error() != "POSTRIDER_MOOD=odd: must be one of good, bad" {
		t.Errorf("refused with %v", err)
	}
}

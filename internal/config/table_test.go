package config

import (
	"os"
	"slices"
	"strings"
	"testing"
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

// README holds exactly the table that the code prints: `postrider settings --markdown`.
func TestREADMEHasTheSettings(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), beginSettings)
	table, _, closed := strings.Cut(rest, endSettings)
	if !ok || !closed {
		t.Fatalf("README.md has no %s … %s", beginSettings, endSettings)
	}
	want := Markdown()
	if strings.TrimSpace(table) != strings.TrimSpace(want) {
		t.Errorf("the table of settings in README.md is not what `postrider settings --markdown` prints:\n%s", firstDifference(table, want))
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
	for _, v := range Variables() {
		names = append(names, v.Name)
		if v.Description == "" {
			t.Errorf("%s has no description", v.Name)
		}
	}
	for _, want := range []string{"POSTRIDER_DATABASE_URL", "POSTRIDER_ON_DEAD", "POSTRIDER_WAL_BUDGET", "POSTRIDER_HTTP_ADDR"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
}

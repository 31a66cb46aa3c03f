package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// Who copies a file of the page has subscriptions, and each expression in a table compiles.
func TestFiltersOnThePage(t *testing.T) {
	text, err := os.ReadFile("filters.md")
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(files) == 0 {
		t.Error("there is no file on the page")
	}
	for _, file := range files {
		path := filepath.Join(t.TempDir(), "subs.yaml")
		if err := os.WriteFile(path, []byte(file[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.ReadFile(path, destination.CheckElsewhere); err != nil {
			t.Errorf("%v in\n%s", err, file[1])
		}
	}
	_, table, _ := strings.Cut(string(text), "| payload | of `")
	carried, table, _ := strings.Cut(table, "` |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for row := range strings.SplitSeq(table, "\n") {
		words := strings.Split(row, "`")
		program, err := expression.Payload(words[1])
		if err != nil {
			t.Errorf("%s: %v", words[1], err)
			continue
		}
		made, _, err := (&expression.Transform{Payload: program}).Of(&sinks.Message{Topic: "orders.created", JSON: true, Payload: []byte(carried)}, new(expression.Memo))
		if err != nil || string(made.Payload) != words[3] {
			t.Errorf("%s makes %s, %v, want %s", words[1], made.Payload, err, words[3])
		}
	}
	_, table, _ = strings.Cut(string(text), "| filter | wants |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	n := 0
	for row := range strings.SplitSeq(table, "\n") {
		n++
		code := strings.Split(row, "`")[1]
		if _, err := expression.Filter(code); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	if n < 10 {
		t.Errorf("%d filters are on the page", n)
	}
}

// The error on the page is that of such a file.
func TestErrorOfAFilterOnThePage(t *testing.T) {
	text, err := os.ReadFile("filters.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "subs.yaml")
	file := "subscriptions:\n  - name: a\n    topics: [a]\n    sink: 'stdout:'\n    filter: paylod.total > 100\n"
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = config.ReadFile(path, func(subscription.Subscription) error { return nil })
	if err == nil || !strings.Contains(string(text), filepath.Base(err.Error()[:strings.Index(err.Error(), ":")])+err.Error()[strings.Index(err.Error(), ":"):]) {
		t.Errorf("the page does not show: %v", err)
	}
}

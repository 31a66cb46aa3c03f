package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/measured"
)

// The tables of performance.md are what bench/results holds: `make performance` writes them.
func TestMeasuredTables(t *testing.T) {
	page, err := os.ReadFile("performance.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := measured.Page(string(page), os.DirFS(filepath.Join("..", "bench", "results")))
	if err != nil {
		t.Fatal(err)
	}
	have, lines := strings.Split(string(page), "\n"), strings.Split(want, "\n")
	for i := range min(len(have), len(lines)) {
		if have[i] != lines[i] {
			t.Fatalf("line %d is not what bench/results has (make performance writes it):\n%s\n%s", i+1, have[i], lines[i])
		}
	}
	if len(have) != len(lines) {
		t.Errorf("the page has %d lines, and with the tables of bench/results %d: make performance writes them", len(have), len(lines))
	}
}

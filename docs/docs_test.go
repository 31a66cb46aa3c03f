// Package docs holds the documentation, and checks that what it points to exists.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that a page names as a proof is there.
func TestNamedTestsExist(t *testing.T) {
	there := tests(t)
	if len(there) < 100 {
		t.Fatalf("found only %d tests", len(there))
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// Every link to a file leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// Every function, type or variable that a page links to is declared in the file that the link names.
func TestNamedDeclarationsExist(t *testing.T) {
	link := regexp.MustCompile("\\[`([A-Za-z]+)(?:\\.([A-Za-z]+))?`\\]\\(([^)]+\\.go)\\)")
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			found++
			source, err := os.ReadFile(filepath.Join(filepath.Dir(page), m[3]))
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			declared := regexp.MustCompile(`(?m)^(?:func|type|var|const) ` + m[1] + `\b`)
			if m[2] != "" {
				declared = regexp.MustCompile(`(?m)^func \(\w+ \*?` + m[1] + `\) ` + m[2] + `\(`)
			}
			if !declared.Match(source) {
				t.Errorf("%s: %s does not declare %s", page, m[3], strings.Trim(m[1]+"."+m[2], "."))
			}
		}
	}
	if found < 15 {
		t.Errorf("found only %d links to declarations", found)
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("*.md")
	if err != nil || len(list) == 0 {
		t.Fatal("no pages", err)
	}
	return append(list, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md")
}

// tests returns the names of all tests, fuzz targets and benchmarks of the project.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// The README stays a page.
func TestREADMEIsAPage(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 160 {
		t.Errorf("README.md has %d lines; what is past 160 belongs into docs/", lines)
	}
}

// Every link to a part of a page leads to a heading.
func TestLinksLeadToHeadings(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)#([^)]+)\)`)
	headings := make(map[string]map[string]bool)
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if headings[target] == nil {
				headings[target] = headingsOf(t, target)
			}
			found++
			if !headings[target][m[2]] {
				t.Errorf("%s: %s has no heading for #%s", page, target, m[2])
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d links to headings", found)
	}
}

// headingsOf returns the anchors that GitHub makes of the headings of a page.
func headingsOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	anchors := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		kept := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(kept, " ", "-")] = true
	}
	return anchors
}

package main

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A module with a test of each kind is run as the others are.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":         "module example.org/m\n\ngo 1.26\n",
		"good/x_test.go": "package good\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Log(\"quiet\") }\nfunc TestAbsent(t *testing.T) { t.Log(\"before\"); t.Skip(\"perl is not installed\") }\n",
		"more/x_test.go": "package more\n\nimport \"testing\"\n\nfunc TestSome(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Skip(\"perl is not installed\") }) }\n",
		"bad/x_test.go":  "package bad\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Log(\"quiet\") }\nfunc TestBad(t *testing.T) { t.Error(\"it broke\") }\n",
		"dies/x_test.go": "package dies\n\nimport \"testing\"\n\nfunc TestDies(t *testing.T) { panic(\"it died\") }\n",
		"none/x_test.go": "package none\n\nfunc f() int { return \"no number\" }\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(packages ...string) (string, error) {
		var out bytes.Buffer
		r := newReport(&out)
		if err := (suite{dir, packages, []string{"GOFLAGS="}}).run(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		err := r.end()
		return out.String(), err
	}
	out, err := run("./good", "./more")
	if err != nil || strings.Contains(out, "quiet") || strings.Contains(out, "before") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"ok  \texample.org/m/good", "\nSkipped:\n  perl is not installed: example.org/m/good TestAbsent, example.org/m/more TestSome/sub\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for name, want := range map[string]string{"./bad": "it broke", "./dies": "panic: it died", "./none": "no number"} {
		out, err := run("./good", name)
		if err == nil || !strings.Contains(out, want) || !strings.Contains(out, "FAIL\texample.org/m/"+name[2:]) || strings.Contains(out, "quiet") {
			t.Errorf("%s: %v, and no %q in\n%s", name, err, want, out)
		}
	}
}

// The longest packages begin first, the checker is not among those that run together, those without goroutines are apart, and nothing else is left
// out or moved.
func TestInOrder(t *testing.T) {
	const m = "github.com/postrider/postrider/"
	large, others, pure := inOrder([]string{m + "cmd/demo", m + "cmd/postrider", m + "internal/torture", m + "migrations", m + "outbox", m + "relay", m + "relay/cron", m + "sinks", m + "worker"})
	got := slices.Concat(large, []string{"then"}, others, []string{"without"}, pure)
	if want := []string{m + "relay", m + "cmd/postrider", m + "migrations", "then", m + "worker", m + "cmd/demo", m + "outbox", m + "sinks", "without", m + "relay/cron"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each name of longest is a package: one that has moved would run last.
func TestLongestExist(t *testing.T) {
	for _, path := range longest {
		if _, err := os.Stat(filepath.Join("../..", path)); err != nil {
			t.Error(err)
		}
	}
}

// What runs without the race detector starts no goroutine, by itself, by a group, as a parallel test or as a server.
func TestPlainHaveNoGoroutines(t *testing.T) {
	for _, path := range plain {
		files, err := filepath.Glob(filepath.Join("../..", path, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has %d files (%v)", path, len(files), err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s has a goroutine, and is tested without the race detector", name)
				case *ast.SelectorExpr:
					of, _ := n.X.(*ast.Ident)
					if slices.Contains([]string{"Go", "Parallel", "AfterFunc", "RunParallel", "Serve"}, n.Sel.Name) || of != nil && of.Name == "httptest" {
						t.Errorf("%s uses %s, and is tested without the race detector", name, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

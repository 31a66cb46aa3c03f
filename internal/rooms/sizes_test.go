package rooms

import (
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// limits are the largest sizes, and their names in exceptions.
var limits = map[string]int{
	fileLines:  300,
	funcLines:  60,
	complexity: 12,
	fields:     15,
}

const (
	fileLines  = "lines of the file"
	funcLines  = "lines of the function"
	complexity = "ways through the function" // cyclomatic complexity
	fields     = "fields of the struct"

	// medianLines bounds the median file of each of the trees.
	medianLines = 120
)

var update = flag.Bool("update", false, "write exceptions_test.go as things are: its diff must be one that shrinks the list, but for what has moved")

// TestSizes: nothing is too large, but for the exceptions, which are as large as they say.
func TestSizes(t *testing.T) {
	found := map[string]int{}
	for _, f := range sources(t) {
		f.measure(func(what string, where string, size int) {
			if size > limits[what] {
				found[what+": "+where] = size
			}
		})
	}
	if *update {
		writeExceptions(t, found)
		return
	}
	for _, place := range slices.Sorted(maps.Keys(found)) {
		what, _, _ := strings.Cut(place, ": ")
		switch size, listed := exceptions[place]; {
		case !listed:
			t.Errorf("%s: %d, at most %d are allowed", place, found[place], limits[what])
		case found[place] > size:
			t.Errorf("%s: %d, and it was %d: exceptions do not grow", place, found[place], size)
		case found[place] < size:
			t.Errorf("%s: %d, and it was %d: write that into exceptions", place, found[place], size)
		}
	}
	for _, place := range slices.Sorted(maps.Keys(exceptions)) {
		if _, still := found[place]; !still {
			t.Errorf("%s: no longer too large, or gone: take it out of exceptions", place)
		}
	}
}

// writeExceptions replaces the last declaration of exceptions_test.go.
func writeExceptions(t *testing.T, found map[string]int) {
	t.Helper()
	const file, declaration = "exceptions_test.go", "var exceptions = map[string]int{"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), declaration)
	if !ok {
		t.Fatalf("%s has no %q", file, declaration)
	}
	list := head + declaration + "\n"
	for _, place := range slices.Sorted(maps.Keys(found)) {
		list += fmt.Sprintf("%q: %d,\n", place, found[place])
	}
	source, err := format.Source([]byte(list + "}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, source, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMedianFile: most files are short.
func TestMedianFile(t *testing.T) {
	byTree := map[string][]int{}
	for _, f := range sources(t) {
		tree, _, _ := strings.Cut(f.path, "/")
		byTree[tree] = append(byTree[tree], f.lines)
	}
	for tree, lines := range byTree {
		slices.Sort(lines)
		if median := lines[len(lines)/2]; median > max(medianLines, medianExceptions[tree]) {
			t.Errorf("%s: the median of %d files has %d lines, at most %d are allowed", tree, len(lines), median, max(medianLines, medianExceptions[tree]))
		} else if median <= medianLines && medianExceptions[tree] > 0 {
			t.Errorf("%s: the median has %d lines: take it out of medianExceptions", tree, median)
		}
	}
}

// TestCommentShare: who comes into the engine finds its fields and states explained.
func TestCommentShare(t *testing.T) {
	comment, all := 0, 0
	for _, f := range sources(t) {
		if strings.HasPrefix(f.path, "relay/") {
			comment += f.comments()
			all += f.lines
		}
	}
	if share := 100 * float64(comment) / float64(all); share < commentShare {
		t.Errorf("%.1f %% of the lines of relay/ have a comment, at least %.1f %% must", share, commentShare)
	}
}

// source is a file that is no test.
type source struct {
	path  string // from the module's root
	lines int
	fset  *token.FileSet
	ast   *ast.File
}

// sources returns all files of the module but tests and what was generated.
func sources(t *testing.T) (list []source) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range goList(t, `{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}`) {
		if line == "" {
			continue
		}
		text, err := os.ReadFile(line)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, line, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(file) {
			continue
		}
		path, err := filepath.Rel(root, line)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, source{path, strings.Count(string(text), "\n"), fset, file})
	}
	if len(list) < 100 {
		t.Fatalf("only %d files were found", len(list))
	}
	return list
}

// measure calls note for the file, its functions and its structs.
func (f *source) measure(note func(what, where string, size int)) {
	note(fileLines, f.path, f.lines)
	dir := filepath.Dir(f.path)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			where := dir + "." + receiver(n) + n.Name.Name
			note(funcLines, where, f.line(n.End())-f.line(n.Pos())+1)
			note(complexity, where, ways(n))
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok {
				note(fields, dir+"."+n.Name.Name, count(s))
			}
		}
		return true
	})
}

func (f *source) line(p token.Pos) int { return f.fset.Position(p).Line }

// comments returns on how many lines there is a comment.
func (f *source) comments() int {
	on := map[int]bool{}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			for line := f.line(c.Pos()); line <= f.line(c.End()); line++ {
				on[line] = true
			}
		}
	}
	return len(on)
}

// receiver returns the type of a method and a dot.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	t := f.Recv.List[0].Type
	for {
		switch inner := t.(type) {
		case *ast.StarExpr:
			t = inner.X
		case *ast.IndexExpr:
			t = inner.X
		case *ast.IndexListExpr:
			t = inner.X
		default:
			return fmt.Sprint(t) + "."
		}
	}
}

// ways is the cyclomatic complexity: one, and one more for each branch.
func ways(f *ast.FuncDecl) int {
	n := 1
	ast.Inspect(f, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// count is the number of a struct's fields; an embedded one is one.
func count(s *ast.StructType) (n int) {
	for _, f := range s.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}

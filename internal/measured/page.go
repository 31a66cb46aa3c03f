package measured

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// table is one of the page.
type table struct {
	name string
	head []string
	rows func(*results) [][]string
}

var marker = regexp.MustCompile(`^<!-- (measured|by hand): (.+) -->$`)

// Page returns the page with its tables as dir, bench/results, has them.
func Page(page string, dir fs.FS) (string, error) {
	r := &results{dir: dir}
	w := writer{results: r, tables: slices.Clone(tables)}
	for line := range strings.Lines(page) {
		if err := w.line(strings.TrimSuffix(line, "\n")); err != nil {
			return "", err
		}
	}
	if r.err != nil {
		return "", r.err
	}
	for _, t := range w.tables {
		return "", fmt.Errorf(`the page has no line "<!-- measured: %s -->"`, t.name)
	}
	return w.out.String(), nil
}

// writer copies a page, and replaces its tables.
type writer struct {
	*results
	tables []table // that the page has not had yet
	out    strings.Builder
	from   string // what the last marker says of the table that follows; empty: there is none
	drop   bool   // the lines of the table that stands here
	inside bool   // a table
	fenced bool   // a block of code
}

func (w *writer) line(line string) error {
	row := strings.HasPrefix(line, "|") && !w.fenced
	switch {
	case row && !w.inside && w.from == "":
		return fmt.Errorf(`nothing says where the table %q is from: "<!-- measured: NAME -->" or "<!-- by hand: WHERE FROM -->" above it`, line)
	case row && w.drop:
		w.inside = true
		return nil
	}
	w.inside = row
	if !row {
		w.from, w.drop = "", false
	}
	if strings.HasPrefix(line, "```") {
		w.fenced = !w.fenced
	}
	w.out.WriteString(line + "\n")
	if m := marker.FindStringSubmatch(line); m != nil && !w.fenced {
		w.from = m[1]
		if m[1] == "measured" {
			return w.table(m[2])
		}
	}
	return nil
}

// table writes the table of a name, if it was measured.
func (w *writer) table(name string) error {
	i := slices.IndexFunc(w.tables, func(t table) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("there is no table %q to write, or it is there twice: those that are left are %s", name, w.left())
	}
	t := w.tables[i]
	w.tables = slices.Delete(w.tables, i, i+1)
	rows := t.rows(w.results)
	if len(rows) == 0 {
		return nil
	}
	w.drop = true
	w.out.WriteString(cells(t.head) + "|" + strings.Repeat("---|", len(t.head)) + "\n")
	for _, row := range rows {
		w.out.WriteString(cells(row))
	}
	return nil
}

func (w *writer) left() string {
	var names []string
	for _, t := range w.tables {
		names = append(names, t.name)
	}
	return strings.Join(names, ", ")
}

// cells is a line of a table. An empty cell is one space.
func cells(row []string) string {
	return strings.ReplaceAll("| "+strings.Join(row, " | ")+" |\n", "|  |", "| |")
}

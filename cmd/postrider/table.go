package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/human"
)

// table is what a list prints for a person: a line of headings, columns two blanks apart, numbers to the right.
type table struct {
	headings []string
	rows     [][]string
}

// newTable starts a table. A heading that begins with ">" makes its column flush right.
func newTable(headings ...string) *table { return &table{headings: headings} }

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = human.OneLine(cells[i])
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(w io.Writer) {
	headings, right := make([]string, len(t.headings)), make([]bool, len(t.headings))
	widths := make([]int, len(t.headings))
	for i, h := range t.headings {
		headings[i], right[i] = strings.CutPrefix(h, ">")
		widths[i] = utf8.RuneCountInString(headings[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range append([][]string{headings}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			blanks := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				line.WriteString(blanks + cell + "  ")
			} else {
				line.WriteString(cell + blanks + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Line is a row in one line, for progress.
func (r *Row) Line() string {
	s := r.System
	if r.Case != "" {
		s += ", " + r.Case
	}
	if r.Error != "" {
		return s + ": " + firstLine(r.Error)
	}
	if r.Rate > 0 {
		s += fmt.Sprintf(": %s/s", count(r.Rate))
	}
	if r.PostgresCPU > 0 {
		s += fmt.Sprintf(", CPU %.2f, %.2f, %.2f s", r.RelayCPU, r.PostgresCPU, r.DestinationCPU)
	}
	if l := r.Latency; l != nil {
		s += fmt.Sprintf(", p50 %s ms, p99 %s ms", number(l.P50), number(l.P99))
	}
	for _, f := range r.Extra {
		s += fmt.Sprintf(", %s %s", f.Name, f.text())
	}
	return s
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// column is one of a table.
type column struct {
	head string
	text func(*Row) string
}

var columns = []column{
	{"system", func(r *Row) string { return r.System }},
	{"", func(r *Row) string { return r.Case }},
	{"messages", func(r *Row) string { return count(float64(r.Messages)) }},
	{"per second", func(r *Row) string { return count(r.Rate) }},
	{"relay CPU s", func(r *Row) string { return number(r.RelayCPU) }},
	{"PostgreSQL", func(r *Row) string { return number(r.PostgresCPU) }},
	{"dest.", func(r *Row) string { return number(r.DestinationCPU) }},
	{"sum", sum},
	{"p50 ms", latency(func(l *Latency) float64 { return l.P50 })},
	{"p95", latency(func(l *Latency) float64 { return l.P95 })},
	{"p99", latency(func(l *Latency) float64 { return l.P99 })},
	{"max", latency(func(l *Latency) float64 { return l.Max })},
	{"relay MiB", func(r *Row) string { return number(float64(r.RelayPeak) / (1 << 20)) }},
	{"WAL B/msg", func(r *Row) string { return count(r.WAL) }},
	{"dead tuples", func(r *Row) string { return count(float64(r.Dead)) }},
}

// Write prints the table. CPU seconds are per 100,000 messages; columns in which nothing was measured are left out.
func (t *Table) Write(w io.Writer) error {
	cells := t.cells()
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n\n", t.Scenario, t.Title)
	for _, row := range cells {
		line := ""
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case widths[i] == 0:
			case i < 2: // names
				line += cell + pad + "  "
			default:
				line += pad + cell + "  "
			}
		}
		b.WriteString("  " + strings.TrimRight(line, " ") + "\n")
	}
	for _, r := range t.Rows {
		if r.Error != "" {
			fmt.Fprintf(&b, "  ! %s: %s\n", strings.TrimSuffix(r.System+", "+r.Case, ", "), r.Error)
		}
	}
	for _, note := range t.Notes {
		fmt.Fprintf(&b, "  %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cells returns the heads and the rows. A column without a figure is all empty.
func (t *Table) cells() [][]string {
	all := slices.Clone(columns)
	for _, r := range t.Rows {
		for _, f := range r.Extra {
			if !slices.ContainsFunc(all, func(c column) bool { return c.head == f.Name }) {
				all = append(all, extra(f.Name))
			}
		}
	}
	rows := make([][]string, len(t.Rows)+1)
	for _, c := range all {
		used := false
		for i := range t.Rows {
			cell := c.text(&t.Rows[i])
			rows[i+1] = append(rows[i+1], cell)
			used = used || cell != ""
		}
		head := c.head
		if !used {
			head = ""
		}
		rows[0] = append(rows[0], head)
	}
	return rows
}

func extra(name string) column {
	return column{name, func(r *Row) string {
		for _, f := range r.Extra {
			if f.Name == name {
				return f.text()
			}
		}
		return ""
	}}
}

func (f Figure) text() string {
	v := number(f.Value)
	switch {
	case f.Value == 0:
		v = "0"
	case f.Unit == "" || f.Value >= 1000:
		v = count(f.Value)
	}
	return strings.TrimSpace(v + " " + f.Unit)
}

// sum is what all of them took. It is empty where less than two parts were measured.
func sum(r *Row) string {
	if r.PostgresCPU+r.DestinationCPU == 0 || r.RelayCPU == 0 {
		return ""
	}
	return number(r.RelayCPU + r.PostgresCPU + r.DestinationCPU)
}

func latency(of func(*Latency) float64) func(*Row) string {
	return func(r *Row) string {
		if r.Latency == nil {
			return ""
		}
		return number(of(r.Latency))
	}
}

// number has about three significant digits; 0 is empty.
func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return count(v)
}

// count is a whole number with commas; 0 is empty.
func count(v float64) string {
	if v == 0 {
		return ""
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

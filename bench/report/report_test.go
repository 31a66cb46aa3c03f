package report

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	h := NewHistogram()
	if h.Latency() != nil {
		t.Error("a distribution of nothing")
	}
	h.Record(-time.Millisecond)
	for i := 1; i < 1000; i++ {
		h.Record(time.Duration(i) * time.Millisecond)
	}
	h.Record(time.Hour) // counts as the longest
	got := *h.Latency()
	near := func(got, want float64) bool { return got > want*0.998 && got < want*1.002 }
	if got.Count != 1001 || got.Early != 1 || !near(got.P50, 500) || !near(got.P95, 950) || !near(got.P99, 990) || !near(got.Max, 600_000) {
		t.Errorf("%+v", got)
	}
}

var example = Table{Scenario: "drain-nats", Title: "a title", Notes: []string{"a note"}, Rows: []Row{
	{System: "postrider stream", Messages: 200_000, Rate: 81234.5, RelayCPU: 0.754, PostgresCPU: 0.13, DestinationCPU: 0.5, WAL: 0.2, RelayPeak: 39 << 20, Extra: []Figure{{"first after", 0.13, "s"}}},
	{System: "river", Case: "no-op", Rate: 999, Latency: &Latency{P50: 0.5, P99: 1234}},
	{System: "none", Error: "no <luck>\nat all"},
	{System: "late", Rate: 1e6, Error: "it died"},
}}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := example.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := `
drain-nats: a title

  system                   messages  per second  relay CPU s  PostgreSQL  dest.   sum  p50 ms    p99  relay MiB  WAL B/msg  first after
  postrider stream          200,000      81,234         0.75        0.13   0.50  1.38                      39.0          0       0.13 s
  river             no-op                   999                                          0.50  1,234
  none
  late                                1,000,000
  ! none: no <luck>
at all
  ! late: it died
  a note
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	for i, want := range []string{"postrider stream: 81,234/s, CPU 0.75, 0.13, 0.50 s, first after 0.13 s", "river, no-op: 999/s, p50 0.50 ms, p99 1,234 ms", "none: no <luck>"} {
		if got := example.Rows[i].Line(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "", 0.004: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := number(v); v > 0 && got != want {
			t.Errorf("number(%v) is %q, want %q", v, got, want)
		}
		if got := count(v); (v < 0 || v > 100) && got != want {
			t.Errorf("count(%v) is %q, want %q", v, got, want)
		}
	}
}

// TestSaveKeepsEarlierTables runs one scenario after another into one directory.
func TestSaveKeepsEarlierTables(t *testing.T) {
	dir, order := filepath.Join(t.TempDir(), "results"), []string{"a", "b", "c"}
	for _, run := range [][]Table{{{Scenario: "c"}, {Scenario: "b", Title: "old"}}, {{Scenario: "b", Title: "new"}, {Scenario: "a"}}} {
		s := Summary{Date: "2026-01-31", Tables: run}
		if err := s.Save(dir, order); err != nil {
			t.Fatal(err)
		}
	}
	s, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, table := range s.Tables {
		names += table.Scenario + table.Title + " "
	}
	if names != "a bnew c " {
		t.Errorf("the tables are %s", names)
	}
	if err := os.WriteFile(filepath.Join(dir, summaryFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(dir); err == nil || !strings.Contains(err.Error(), summaryFile) {
		t.Errorf("a broken summary: %v", err)
	}
}

func TestChart(t *testing.T) {
	live := Table{Scenario: "live-1000", Rows: []Row{
		{System: "bare pipe", Latency: &Latency{P50: 0.05, P99: 0.5}},
		{System: "a <b>", Latency: &Latency{P50: 0.5, P99: 5}},
		{System: "unmeasured"},
	}}
	svg := chart([]Table{live, example})
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("it is no XML: %v\n%s", err, svg)
	}
	for _, want := range []string{"81,234", "a &lt;b&gt;", "0.05 – 0.50 ms", `class="p" x="230.0"`, `class="l" x="230.0"`, `class="b"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("%s is missing in\n%s", want, svg)
		}
	}
	for _, no := range []string{"luck", "late", "unmeasured"} {
		if strings.Contains(svg, no) {
			t.Errorf("%s has no figure, but is in\n%s", no, svg)
		}
	}
	if strings.Index(svg, "Backlog into JetStream") > strings.Index(svg, "1,000 transactions") {
		t.Error("the panels are not in their order")
	}
	if err := xml.Unmarshal([]byte(chart(nil)), new(struct{})); err != nil {
		t.Error(err)
	}
}

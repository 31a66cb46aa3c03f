package prometheus

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// panel is the part of a panel that is checked.
type panel struct {
	Title, Type string
	ID          int
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ Expr, RefID string }
}

// dashboard reads the dashboard.
func dashboard(t *testing.T) (panels []panel, variables []string) {
	t.Helper()
	text, err := os.ReadFile("../grafana/postrider.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID        string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "postrider" || len(d.Panels) < 30 {
		t.Errorf("dashboard %q has %d panels", d.UID, len(d.Panels))
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			variables = append(variables, v.Definition)
		}
	}
	return d.Panels, variables
}

// filled is a query as Grafana sends it, with all that may be chosen.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$subscription", ".*", "$instance", ".*").Replace(expr)
}

// documented are the labels of each metric that the page on metrics lists.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{"up": nil, "process_resident_memory_bytes": nil, "process_cpu_seconds_total": nil}
	for _, m := range regexp.MustCompile("(?m)^\\| `(postrider_\\w+)` \\| (\\w+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		of := regexp.MustCompile(`\w+`).FindAllString(m[3], -1)
		if known[m[1]] = of; m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = append(slices.Clone(of), "le"), of, of
		}
	}
	if len(known) < 40 {
		t.Fatalf("found only %d metrics on the page", len(known))
	}
	return known
}

// used reports what an expression uses that there is not.
func used(known map[string][]string, expr string) (problems []string) {
	parsed, err := promQL.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	there := []string{"job", "instance"}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			of, is := known[s.Name]
			if !is {
				problems = append(problems, "there is no metric "+s.Name)
			}
			there = append(there, of...)
			for _, m := range s.LabelMatchers {
				if m.Name != model.MetricNameLabel && m.Name != "job" && m.Name != "instance" && !slices.Contains(of, m.Name) {
					problems = append(problems, s.Name+" has no label "+m.Name)
				}
			}
		}
		return nil
	})
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				if !slices.Contains(there, l) {
					problems = append(problems, "nothing has label "+l)
				}
			}
		}
		return nil
	})
	return problems
}

// What rules and panels ask for is there.
func TestQueriesNameWhatThereIs(t *testing.T) {
	known := documented(t)
	for _, d := range definitions(t) {
		for _, problem := range used(known, d.Expr) {
			t.Errorf("alert %s: %s", d.Alert, problem)
		}
	}
	panels, variables := dashboard(t)
	ids := map[int]bool{}
	for _, p := range panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %s: its number comes twice, or it is too wide", p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			for _, problem := range used(known, filled(q.Expr)) {
				t.Errorf("panel %s: %s", p.Title, problem)
			}
		}
	}
	for _, v := range variables {
		m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v)
		if m == nil || m[2] != "instance" && !slices.Contains(known[m[1]], m[2]) {
			t.Errorf("variable %s: there is nothing of it", v)
		}
	}
	// And the other way round: what is told is shown.
	all := fmt.Sprint(panels)
	for name := range known {
		if plain := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""); strings.HasPrefix(name, "postrider_") && !strings.Contains(all, plain) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// nothingYet are what a relay tells of only when it has happened, which none of it does in this test.
var nothingYet = regexp.MustCompile(`postrider_(expired|callbacks|trace_spans|filtered|replica_pages)_total`)

// dashboardShows wants every query to show something of a relay that works, or of one in trouble.
func dashboardShows(t *testing.T, stages ...stage) {
	t.Helper()
	l := newTimeline(t, time.Now().Add(-time.Hour))
	shown := map[string]bool{}
	engine := newEngine(t)
	panels, _ := dashboard(t)
	for _, s := range stages {
		l.play(t, s, func() {})
		for _, p := range panels {
			for _, target := range p.Targets {
				q, err := engine.NewInstantQuery(t.Context(), l, nil, filled(target.Expr), l.now.Add(-scrapeEvery))
				if err != nil {
					t.Fatalf("panel %s: %v", p.Title, err)
				}
				result := q.Exec(t.Context())
				if result.Err != nil {
					t.Fatalf("panel %s: %v", p.Title, result.Err)
				}
				if v, err := result.Vector(); err == nil && len(v) > 0 {
					shown[target.Expr] = true
				}
				q.Close()
			}
		}
	}
	for _, p := range panels {
		for _, target := range p.Targets {
			if !shown[target.Expr] && !nothingYet.MatchString(target.Expr) {
				t.Errorf("panel %s shows nothing for %s", p.Title, target.Expr)
			}
		}
	}
}

package metrics

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// known is all that a relay can know, of n subscriptions.
func known(n int) *Now {
	now := &Now{Name: "one", Version: "1", Ready: true, FeedMode: FeedStream, Status: &Status{Eldest: true}}
	for i := range n {
		name := fmt.Sprintf("subscription-%d", i)
		now.Subscriptions = append(now.Subscriptions, Subscription{Name: name, Owned: true})
		now.Status.Subscriptions = append(now.Status.Subscriptions, Looked{Name: name, Parked: map[string]int64{"retrying": 1, "held": 1, "scheduled": 1, "leased": 1, "dead": 1, "discarded": 1, "cancelled": 1}})
	}
	return now
}

// gatheredOf are the families that the metrics show, by name.
func gatheredOf(t *testing.T, now *Now, count func(*Metrics)) map[string]*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	m := New(registry, func() *Now { return now })
	count(m)
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := make(map[string]*dto.MetricFamily)
	for _, family := range all {
		families[family.GetName()] = family
	}
	return families
}

func something(m *Metrics) {
	r := m.Runner("subscription-0")
	r.Attempted(0)
	r.Parked("held")
	r.Filtered()
	r.Arrived(time.Second)
	r.Passes.Inc()
	m.Ticks.WithLabelValues("table").Inc()
	m.Replica.WithLabelValues("read").Inc()
	m.Expired.WithLabelValues("dead").Inc()
}

// All that the table has is told, with its type and its labels; what others of the process tell is as the table says, since they ask it.
func TestWhatTheTableHasIsTold(t *testing.T) {
	families := gatheredOf(t, known(1), something)
	for _, d := range table {
		family := families["postrider_"+d.name]
		if d.elsewhere() {
			if family != nil {
				t.Errorf("%s is told twice", d.name)
			}
			continue
		}
		if family == nil {
			t.Errorf("%s is told by nobody", d.name)
			continue
		}
		if is := strings.ToLower(family.GetType().String()); is != string(d.kind) {
			t.Errorf("%s is a %s, the table says %s", d.name, is, d.kind)
		}
		var labels []string
		for _, pair := range family.Metric[0].Label {
			labels = append(labels, pair.GetName())
		}
		if !slices.Equal(labels, slices.Sorted(slices.Values(d.labels))) {
			t.Errorf("%s has labels %q, the table says %q", d.name, labels, d.labels)
		}
		delete(families, "postrider_"+d.name)
	}
	for name := range families {
		t.Errorf("%s is not in the table", name)
	}
}

// What may wake somebody by having happened once is 0 before: a series that begins with 1 is no increase.
func TestWhatHasNotHappenedIsZero(t *testing.T) {
	families := gatheredOf(t, known(1), func(m *Metrics) { m.Runner("s") })
	for name, values := range map[string][]string{"postrider_parked_total": {"s", "dead"}, "postrider_saves_total": {"error"}, "postrider_schedule_misses_total": nil} {
		zero := slices.ContainsFunc(families[name].GetMetric(), func(m *dto.Metric) bool {
			is := m.GetCounter().GetValue() == 0
			for _, v := range values {
				is = is && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == v })
			}
			return is
		})
		if !zero {
			t.Errorf("%s of %q is not told", name, values)
		}
	}
}

// Names, units and helps are as Prometheus wants them.
func TestNamesAreAsPrometheusHasThem(t *testing.T) {
	families := gatheredOf(t, known(1), something)
	var list []*dto.MetricFamily
	for _, family := range families {
		list = append(list, family)
	}
	for _, d := range table { // that others tell
		if d.elsewhere() {
			name, help, kind := "postrider_"+d.name, d.help, dto.MetricType(dto.MetricType_value[strings.ToUpper(string(d.kind))])
			list = append(list, &dto.MetricFamily{Name: &name, Help: &help, Type: &kind})
		}
	}
	problems, err := promlint.NewWithMetricFamilies(list).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, d := range table {
		if !regexp.MustCompile(`^[0-9A-Z].*\.$`).MatchString(d.help) || d.by == "" {
			t.Errorf("%s: the help is no sentence, or nobody tells it", d.name)
		}
	}
}

// Without a look that is fresh, nothing is told that only a look shows; and what is everybody's is told by the eldest alone.
func TestWithoutALook(t *testing.T) {
	without, younger := known(1), known(1)
	without.Status, younger.Status.Eldest = nil, false
	all, none, some := gatheredOf(t, known(1), something), gatheredOf(t, without, something), gatheredOf(t, younger, something)
	for _, d := range table {
		name := "postrider_" + d.name
		if d.elsewhere() {
			continue
		}
		if looks := d.by == byOneLooked || d.by == byEldest || d.name == "status_look_seconds"; (none[name] == nil) != looks {
			t.Errorf("%s without a look: %v", d.name, none[name])
		}
		if (some[name] == nil) != (d.by == byEldest) {
			t.Errorf("%s, of a relay that is not the eldest: %v", d.name, some[name])
		}
		if all[name] == nil {
			t.Errorf("%s is not told", d.name)
		}
	}
}

// What is told of ten thousand subscriptions costs as much by the line as of a hundred.
func TestTellingOfTenThousandSubscriptions(t *testing.T) {
	const most = 20 // allocations per line
	for _, n := range []int{100, 10_000} {
		now := known(n)
		registry := prometheus.NewRegistry()
		New(registry, func() *Now { return now })
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		families, err := registry.Gather()
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, family := range families {
			lines += len(family.Metric)
		}
		if each := float64(after.Mallocs-before.Mallocs) / float64(lines); lines < 16*n || each > most {
			t.Errorf("%d lines of %d subscriptions, %.1f allocations each", lines, n, each)
		}
	}
}

// markdown is the table for the documentation.
func markdown() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | told by | meaning |\n|---|---|---|---|---|\n")
	for _, d := range table {
		labels := strings.Join(d.labels, "`, `")
		if labels != "" {
			labels = "`" + labels + "`"
		}
		fmt.Fprintf(&b, "| `%s_%s` | %s | %s | %s | %s |\n", namespace, d.name, d.kind, labels, d.by, d.help)
	}
	return b.String()
}

// The documentation shows the table.
func TestDocumentationShowsTheTable(t *testing.T) {
	const path, from, to = "../../docs/metrics.md", "<!-- metrics: made of relay/metrics, go test ./relay/metrics -->\n", "<!-- end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), from)
	is, _, ends := strings.Cut(rest, to)
	if !ok || !ends {
		t.Fatalf("%s has no place for the table of metrics", path)
	}
	if is != markdown() {
		t.Errorf("%s does not show the table as it is, which is:\n%s", path, markdown())
	}
}

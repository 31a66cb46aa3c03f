package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured is a table of bench/results, as far as performance.md shows it.
type measured struct {
	Rows []measuredRow `json:"rows"`
}

type measuredRow struct {
	System   string  `json:"system"`
	Case     string  `json:"case"`
	Rate     float64 `json:"rate"`
	Relay    float64 `json:"relay_cpu_s_per_100k"`
	Postgres float64 `json:"postgres_cpu_s_per_100k"`
	Behind   float64 `json:"destination_cpu_s_per_100k"`
	Latency  struct {
		P50 float64 `json:"p50_ms"`
		P99 float64 `json:"p99_ms"`
	} `json:"latency"`
	Extra []struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
	} `json:"extra"`
	Error string `json:"error"`
}

// results reads a scenario's table. Without one, nothing of it is on the page.
func results(t *testing.T, scenario string) (m measured, there bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "bench", "results", scenario+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range m.Rows {
		if r.Error != "" {
			t.Errorf("%s, %s: %s", scenario, r.System, r.Error)
		}
	}
	return m, true
}

// of is the row of a system.
func (m measured) of(t *testing.T, system string) measuredRow {
	t.Helper()
	for _, r := range m.Rows {
		if r.System == system {
			return r
		}
	}
	t.Fatalf("there is no row of %s", system)
	return measuredRow{}
}

// whole is a number with commas; three is one of about three digits.
func whole(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func three(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return whole(v)
}

func (r measuredRow) cpu() string {
	return three(r.Relay) + ", " + three(r.Postgres) + ", " + three(r.Behind)
}

func (r measuredRow) latency() string {
	return three(r.Latency.P50) + ", " + three(r.Latency.P99) + " ms"
}

// share is a figure of the row, in percent.
func (r measuredRow) share(t *testing.T, name string) string {
	t.Helper()
	for _, f := range r.Extra {
		if f.Name == name {
			return fmt.Sprintf("%.0f %%", f.Value)
		}
	}
	t.Errorf("%s, %s: there is no figure %q", r.System, r.Case, name)
	return ""
}

// Names of systems in bench/results.
const (
	own   = "postrider stream"
	pipe  = "bare pipe"
	equal = "bare pipe, all attributes"
)

// bridges are the destinations beside JetStream and webhooks, as the page calls them.
var bridges = []struct{ kind, label string }{{"redis", "Redis"}, {"kafka", "Kafka, faked"}, {"amqp", "RabbitMQ"}, {"mqtt", "MQTT"}, {"postgres", "PostgreSQL"},
	{"sqs", "SQS, faked"}, {"sns", "SNS, faked"}, {"pubsub", "Pub/Sub, faked"}}

// The tables of performance.md on destinations beside JetStream and webhooks, filters and a standby are what bench/results holds: all of it, and nothing else.
func TestMeasuredTables(t *testing.T) {
	text, err := os.ReadFile("performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n## Other destinations\n"))
	text, _, _ = bytes.Cut(text, []byte("\n## Jobs\n"))
	var want []string
	add := func(cells ...string) { want = append(want, "| "+strings.Join(cells, " | ")+" |") }
	for _, d := range bridges {
		if m, ok := results(t, "drain-"+d.kind); ok {
			r, least, full := m.of(t, own), m.of(t, pipe), m.of(t, equal)
			add(d.label, whole(r.Rate), r.share(t, "of "+pipe), r.share(t, "of "+equal), r.cpu(), least.cpu(), full.cpu())
		}
	}
	for _, d := range bridges {
		if m, ok := results(t, "live-"+d.kind); ok {
			r, least, full := m.of(t, own), m.of(t, pipe), m.of(t, equal)
			add(d.label, r.latency(), least.latency(), full.latency(), r.cpu(), least.cpu())
		}
	}
	if m, ok := results(t, "drain-filter"); ok {
		for i, r := range m.Rows {
			of := "100 %"
			if i > 0 {
				of = r.share(t, "of those as they are")
			}
			add(r.Case, whole(r.Rate), of, three(r.Relay), three(r.Postgres))
		}
	}
	if m, ok := results(t, "replica"); ok {
		for _, r := range m.Rows {
			add(r.Case, whole(r.Rate), three(r.Relay), three(r.Postgres), three(r.Behind))
		}
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "|-") && len(got) > 0: // what is above is the head
			got = got[:len(got)-1]
		case strings.HasPrefix(line, "|"):
			got = append(got, line)
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the tables hold\n%s\nbench/results hold\n%s", g, w)
	}
}

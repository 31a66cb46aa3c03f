package measured

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// result is the table of a scenario, as far as the page shows it.
type result struct {
	Rows []row `json:"rows"`
}

type row struct {
	System      string  `json:"system"`
	Case        string  `json:"case"`
	Rate        float64 `json:"rate"`
	Relay       float64 `json:"relay_cpu_s_per_100k"`
	Postgres    float64 `json:"postgres_cpu_s_per_100k"`
	Destination float64 `json:"destination_cpu_s_per_100k"`
	Peak        int64   `json:"relay_peak_bytes"`
	WAL         float64 `json:"wal_bytes_per_message"`
	Dead        int64   `json:"dead_tuples"`
	Latency     struct {
		P50 float64 `json:"p50_ms"`
		P95 float64 `json:"p95_ms"`
		P99 float64 `json:"p99_ms"`
	} `json:"latency"`
	Extra []struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
	} `json:"extra"`
	Error string `json:"error"`
}

// results reads tables of scenarios, and keeps the first error.
type results struct {
	dir fs.FS
	err error
}

// of is the rows of a scenario; none if it was not measured.
func (r *results) of(scenario string) []row {
	text, err := fs.ReadFile(r.dir, scenario+".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var t result
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	r.fail(scenario, err)
	for _, row := range t.Rows {
		if row.Error != "" {
			r.fail(scenario, fmt.Errorf("there is no figure of %s: %s", strings.TrimSuffix(row.System+", "+row.Case, ", "), row.Error))
		}
	}
	return t.Rows
}

func (r *results) fail(scenario string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("results of %s: %w", scenario, err)
	}
}

// named is the row of a system among those of a scenario.
func (r *results) named(scenario string, rows []row, system string) row {
	for _, row := range rows {
		if row.System == system {
			return row
		}
	}
	r.fail(scenario, fmt.Errorf("there is no row of %s", system))
	return row{}
}

// figure is a value that only some scenarios have.
func (r row) figure(name string) float64 {
	for _, f := range r.Extra {
		if f.Name == name {
			return f.Value
		}
	}
	return 0
}

// Package report holds what was measured, and writes it as text, as JSON and as a chart.
package report

import "time"

// Table is what a scenario yields: a row for each system, and for each case of it.
type Table struct {
	Scenario string   `json:"scenario"` // its name; the registry fills it in
	Title    string   `json:"title"`    // likewise
	Notes    []string `json:"notes,omitempty"`
	Rows     []Row    `json:"rows"`
}

// Row is one measurement. What is zero was not measured, or is not meaningful there.
type Row struct {
	System   string  `json:"system"`
	Case     string  `json:"case,omitempty"` // what distinguishes it within the scenario, such as "64 lanes"
	Messages int64   `json:"messages,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Rate     float64 `json:"rate,omitempty"` // deliveries per second

	// Latency is from the return of COMMIT to the arrival.
	Latency *Latency `json:"latency,omitempty"`

	// CPU seconds per 100,000 messages.
	RelayCPU       float64 `json:"relay_cpu_s_per_100k,omitempty"`
	PostgresCPU    float64 `json:"postgres_cpu_s_per_100k,omitempty"`
	DestinationCPU float64 `json:"destination_cpu_s_per_100k,omitempty"`

	RelayPeak int64   `json:"relay_peak_bytes,omitempty"`      // resident memory of the relay at most
	WAL       float64 `json:"wal_bytes_per_message,omitempty"` // in drains the system's alone, else the producers' INSERT included
	Dead      int64   `json:"dead_tuples,omitempty"`           // in the system's tables, at most

	Extra []Figure `json:"extra,omitempty"`
	Error string   `json:"error,omitempty"` // why there is no figure
}

// Figure is a value that only this scenario has.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// Latency is a distribution in milliseconds. Arrivals before COMMIT had returned count as 0.
type Latency struct {
	Count int64   `json:"count"`
	Early int64   `json:"before_commit_returned,omitempty"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// Add adds a figure to the row.
func (r *Row) Add(name string, value float64, unit string) {
	r.Extra = append(r.Extra, Figure{name, value, unit})
}

// Milliseconds is d in milliseconds, with fractions.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

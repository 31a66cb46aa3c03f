package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Summary says where and when results were measured, as far as that matters for the figures.
type Summary struct {
	Date     string            `json:"date"` // of the day, UTC
	Full     bool              `json:"full"`
	CPUs     int               `json:"cpus"`
	CPU      string            `json:"cpu,omitempty"`
	Kernel   string            `json:"kernel,omitempty"`
	Versions map[string]string `json:"versions"` // of PostgreSQL, Go, NATS and the systems
	Settings map[string]string `json:"postgresql_settings"`
	Pinned   string            `json:"pinned,omitempty"` // who had which processors, or why not; empty: nobody asked for that
	Seconds  float64           `json:"seconds"`          // that the run took
	Tables   []Table           `json:"tables"`
}

// summaryFile is the name of the file that holds everything.
const summaryFile = "summary.json"

// Save writes a file for the table into dir.
func (t *Table) Save(dir string) error { return save(dir, t.Scenario+".json", t) }

// Save writes the summary into dir. Tables of scenarios that did not run this time are taken from the summary that is there.
func (s *Summary) Save(dir string, order []string) error {
	old, err := load(dir)
	if err != nil {
		return err
	}
	byName := map[string]Table{}
	for _, t := range append(old.Tables, s.Tables...) {
		byName[t.Scenario] = t
	}
	s.Tables = nil
	for _, name := range order {
		if t, ok := byName[name]; ok {
			s.Tables = append(s.Tables, t)
		}
	}
	return save(dir, summaryFile, s)
}

func load(dir string) (s Summary, err error) {
	text, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, summaryFile), err)
	}
	return s, nil
}

func save(dir, name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("save the results: %w", err)
	}
	return nil
}

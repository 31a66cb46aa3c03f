package report

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest latency that is told from longer ones.
const longest = 10 * time.Minute

// Histogram collects latencies, with three significant digits from a microsecond on. It is not safe for concurrent use.
type Histogram struct {
	h     *hdrhistogram.Histogram
	early int64
}

// NewHistogram returns an empty one.
func NewHistogram() *Histogram { return &Histogram{h: hdrhistogram.New(1, longest.Microseconds(), 3)} }

// Record adds a latency. One below zero means that the message arrived before COMMIT had returned.
func (h *Histogram) Record(d time.Duration) {
	if d < 0 {
		h.early++
	}
	d = min(max(d, 0), longest)
	_ = h.h.RecordValue(d.Microseconds()) // it lies within the bounds
}

// Latency returns the distribution, or nil if nothing was recorded.
func (h *Histogram) Latency() *Latency {
	n := h.h.TotalCount()
	if n == 0 {
		return nil
	}
	at := func(q float64) float64 { return float64(h.h.ValueAtQuantile(q)) / 1000 }
	return &Latency{Count: n, Early: h.early, P50: at(50), P95: at(95), P99: at(99), Max: float64(h.h.Max()) / 1000}
}

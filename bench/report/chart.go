package report

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// panel is one part of the chart.
type panel struct {
	scenario, title string
	latency         bool // else the rate
}

// panels are those of the chart, as far as there are results.
var panels = []panel{
	{"drain-nats", "Backlog into JetStream, messages/s", false},
	{"drain-webhook", "Backlog to a webhook, messages/s", false},
	{"live-1000", "COMMIT to NATS at 1,000 transactions/s, p50 to p99", true},
	{"live-3000", "COMMIT to NATS at 3,000 transactions/s, p50 to p99", true},
	{"live-webhook", "COMMIT to webhook at 1,000 transactions/s, p50 to p99", true},
}

// Sizes of the chart, in its own units.
const (
	chartWidth = 820
	nameWidth  = 230
	valueWidth = 130
	barHeight  = 16
	rowHeight  = 24
	headHeight = 34
)

const barWidth = chartWidth - nameWidth - valueWidth

const style = `text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.v{fill:#57606a}.b{fill:#afb8c1}.p{fill:#0969da}.l{fill:#8c6d1f}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.v{fill:#9198a1}.b{fill:#545d68}.p{fill:#4493f8}.l{fill:#c69026}}`

// SaveChart writes chart.svg into dir, from tables.
func SaveChart(dir string, tables []Table) error {
	if err := os.WriteFile(filepath.Join(dir, "chart.svg"), []byte(chart(tables)), 0o644); err != nil {
		return fmt.Errorf("save the chart: %w", err)
	}
	return nil
}

// chart draws a panel for each scenario that is there: bars of rates, or, on a scale of powers of ten, the way from p50 to p99.
func chart(tables []Table) string {
	var body strings.Builder
	y := 0
	for _, p := range panels {
		for _, t := range tables {
			if t.Scenario == p.scenario {
				y = p.draw(&body, y, t.Rows)
			}
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img"><style>%s</style>`+"\n%s</svg>\n",
		chartWidth, max(y, 1), style, body.String())
}

// draw draws the panel from y on and returns where it ends.
func (p panel) draw(b *strings.Builder, y int, rows []Row) int {
	fmt.Fprintf(b, `<text class="t" x="0" y="%d">%s</text>`+"\n", y+22, html.EscapeString(p.title))
	y += headHeight
	most := 0.0
	for _, r := range rows {
		most = max(most, p.to(&r))
	}
	for _, r := range rows {
		if p.to(&r) == 0 {
			continue
		}
		from, to, value := p.bar(&r, most)
		name := strings.TrimSuffix(r.System+", "+r.Case, ", ")
		fmt.Fprintf(b, `<text x="0" y="%d">%s</text>`, y+13, html.EscapeString(name))
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`, class(r.System), nameWidth+from*barWidth, y, max(2, (to-from)*barWidth), barHeight)
		fmt.Fprintf(b, `<text class="v" x="%.1f" y="%d">%s</text>`+"\n", nameWidth+to*barWidth+8, y+13, value)
		y += rowHeight
	}
	return y + 8
}

// to is the value at the end of a row's bar; 0: there is none.
func (p panel) to(r *Row) float64 {
	switch {
	case r.Error != "":
		return 0
	case !p.latency:
		return r.Rate
	case r.Latency == nil:
		return 0
	}
	return r.Latency.P99
}

// fastest is where the scale of latencies begins, in milliseconds.
const fastest = 0.05

// bar returns where the bar begins and ends, as parts of the width, and what stands behind it.
func (p panel) bar(r *Row, most float64) (from, to float64, value string) {
	if !p.latency {
		return 0, r.Rate / most, count(r.Rate)
	}
	at := func(ms float64) float64 {
		return math.Log10(max(ms, fastest)/fastest) / math.Log10(max(most, 10*fastest)/fastest)
	}
	return at(r.Latency.P50), at(r.Latency.P99), number(max(r.Latency.P50, 0.01)) + " – " + number(max(r.Latency.P99, 0.01)) + " ms"
}

// class is the colour: ours, the limit, or a peer's.
func class(system string) string {
	switch {
	case strings.HasPrefix(system, "postrider"):
		return "p"
	case strings.HasPrefix(system, "bare"):
		return "l"
	}
	return "b"
}

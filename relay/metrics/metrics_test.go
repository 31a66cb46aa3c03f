package metrics

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// idle is a relay that knows nothing.
func idle() *Now { return &Now{} }

// gathered are the metrics of n subscriptions that all deliver, and what it took to write them.
type gathered struct {
	metrics     *Metrics
	scrape      func() string
	lines       int
	allocations uint64
}

func gather(n int) *gathered {
	registry := prometheus.NewRegistry()
	g := &gathered{metrics: New(registry, idle)}
	for i := range n {
		r := g.metrics.Runner(fmt.Sprintf("subscription-%d", i))
		r.Attempted(sinks.KindAccepted)
		r.Attempted(sinks.KindRetryable)
		r.Arrived(time.Duration(i))
	}
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	g.scrape = func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	g.lines = strings.Count(g.scrape(), "\n")
	runtime.ReadMemStats(&after)
	g.allocations = after.Mallocs - before.Mallocs
	return g
}

// Ten thousand subscriptions are written at a cost per line that does not grow, and those that are gone are forgotten one by one, without
// a look at the others.
func TestMetricsOfTenThousandSubscriptions(t *testing.T) {
	const most = 8 // allocations per line
	few, many := gather(100), gather(10_000)
	if many.lines < 180_000 || many.lines > 100*few.lines {
		t.Errorf("%d lines of ten thousand subscriptions, %d of a hundred", many.lines, few.lines)
	}
	if n := many.allocations / uint64(many.lines); n > most {
		t.Errorf("%d allocations per line, want %d at most", n, most)
	}
	t.Logf("allocations per line: %.1f of few, %.1f of many", float64(few.allocations)/float64(few.lines), float64(many.allocations)/float64(many.lines))
	asked := 0
	many.metrics.Forget(func(string) bool { asked++; return true })
	if asked != 10_000 {
		t.Errorf("%d subscriptions were asked about, want 10,000", asked)
	}
	if strings.Contains(many.scrape(), "subscription-") {
		t.Error("some are left")
	}
}

// Whatever has series of a subscription is in the list by which they end.
func TestAllSeriesOfSubscriptionsEnd(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := New(registry, idle)
	r := m.Runner("s")
	for k := range sinks.KindGone + 1 {
		r.Attempted(k)
	}
	r.Arrived(time.Second)
	r.Filtered()
	for _, state := range states.Names(nil) {
		m.each.parked.WithLabelValues("s", state).Inc()
	}
	families := func() (of int) {
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range all {
			if slices.ContainsFunc(family.Metric[0].Label, func(l *dto.LabelPair) bool { return l.GetName() == "subscription" }) {
				of++
			}
		}
		return of
	}
	if have, want := families(), len(m.each.all); have != want {
		t.Errorf("%d metrics have series of subscriptions, %d are in the list", have, want)
	}
	m.Forget(func(string) bool { return true })
	if n := families(); n != 0 {
		t.Errorf("%d metrics have some left", n)
	}
}

package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// Metrics are what is counted when it happens.
type Metrics struct {
	Ticks     *prometheus.CounterVec
	Gaps      prometheus.Counter
	Completed prometheus.Counter
	Saves     *prometheus.CounterVec
	Emptied   prometheus.Counter
	Expired   *prometheus.CounterVec
	Replica   *prometheus.CounterVec // by result
	Fired     prometheus.Counter
	Missed    prometheus.Counter
	Owned     prometheus.Gauge
	Unable    prometheus.Gauge

	evaluated prometheus.Counter
	each      each

	mu    sync.Mutex
	names map[string]bool // subscriptions that have series
}

// each are the metrics that every subscription has by itself.
type each struct {
	deliveries, parked, passes *prometheus.CounterVec
	filtered                   *prometheus.CounterVec
	latency                    *prometheus.HistogramVec
	down, misconfigured        *prometheus.GaugeVec
	stopped                    *prometheus.GaugeVec

	all []vector // what is missing here leaves series behind
}

// vector is what has series of subscriptions, by a further label of these values.
type vector struct {
	*prometheus.MetricVec
	further []string
}

// New makes the metrics of the table and registers them, if r is not nil. Whoever collects them asks what is so now.
func New(r prometheus.Registerer, now func() *Now) *Metrics {
	v := makeVectors()
	m := &Metrics{
		names: make(map[string]bool),
		Ticks: v.counters["ticks_total"], Gaps: v.counter("stream_gaps_total"), Completed: v.counter("windows_completed_total"),
		Saves: v.counters["saves_total"], Emptied: v.counter("segments_emptied_total"), Expired: v.counters["expired_total"], Replica: v.counters["replica_pages_total"],
		Fired: v.counter("schedule_runs_total"), Missed: v.counter("schedule_misses_total"),
		evaluated: v.counter("evaluations_total"), Owned: v.gauge("cursors_owned"), Unable: v.gauge("subscriptions_unable"),
		each: each{
			deliveries: v.counters["deliveries_total"], parked: v.counters["parked_total"], passes: v.counters["passes_total"], filtered: v.counters["filtered_total"],
			latency: v.histograms["delivery_latency_seconds"], down: v.gauges["destination_down"],
			misconfigured: v.gauges["destination_misconfigured"], stopped: v.gauges["intake_stopped"], all: v.ofSubscriptions,
		},
	}
	for _, result := range []string{"ok", "error"} { // what has not happened yet is 0: else its first time would be no increase
		m.Saves.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(v.all...)
		r.MustRegister(newCollector(now))
	}
	return m
}

// vectors are the metrics of the table that are counted when it happens, by name.
type vectors struct {
	counters        map[string]*prometheus.CounterVec
	gauges          map[string]*prometheus.GaugeVec
	histograms      map[string]*prometheus.HistogramVec
	all             []prometheus.Collector
	ofSubscriptions []vector
}

func makeVectors() *vectors {
	v := &vectors{counters: map[string]*prometheus.CounterVec{}, gauges: map[string]*prometheus.GaugeVec{}, histograms: map[string]*prometheus.HistogramVec{}}
	for i := range table {
		d := &table[i]
		if d.read != nil || d.elsewhere() {
			continue
		}
		var made prometheus.Collector
		var series *prometheus.MetricVec
		switch d.kind {
		case counter:
			c := CounterVec(d.name)
			v.counters[d.name], made, series = c, c, c.MetricVec
		case gauge:
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: d.name, Help: d.help}, d.labels)
			v.gauges[d.name], made, series = g, g, g.MetricVec
		case histogram:
			h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: d.name, Help: d.help, Buckets: d.buckets}, d.labels)
			v.histograms[d.name], made, series = h, h, h.MetricVec
		}
		v.all = append(v.all, made)
		if d.ofSubscription() {
			v.ofSubscriptions = append(v.ofSubscriptions, vector{series, d.further()})
		}
	}
	return v
}

func (v *vectors) counter(name string) prometheus.Counter { return v.counters[name].WithLabelValues() }

func (v *vectors) gauge(name string) prometheus.Gauge { return v.gauges[name].WithLabelValues() }

func (d *definition) ofSubscription() bool { return len(d.labels) > 0 && d.labels[0] == "subscription" }

// further returns the values of the label beside the subscription.
func (d *definition) further() (values []string) {
	switch {
	case len(d.labels) == 1:
		return nil
	case d.labels[1] == "state":
		return states.Names(nil)
	}
	for k := range sinks.KindGone + 1 {
		values = append(values, k.String())
	}
	return values
}

// Counters are one subscription's. Series that are looked up for each message are looked up once, and made when there is something
// to count: ten thousand subscriptions that nobody writes to are not worth a quarter of a million lines.
type Counters struct {
	all      *Metrics
	name     string
	outcomes [sinks.KindGone + 1]prometheus.Counter
	latency  prometheus.Observer
	filtered prometheus.Counter
	Passes   prometheus.Counter
	Down     prometheus.Gauge // 1 or 0, as the two below
	Stopped  prometheus.Gauge
	// Misconfigured is 1 where Down is for something that somebody has to change.
	Misconfigured prometheus.Gauge
}

// Runner returns those of a subscription. Dead letters are counted from 0 on, so that the first one is an increase.
func (m *Metrics) Runner(name string) Counters {
	m.mu.Lock()
	m.names[name] = true
	m.mu.Unlock()
	m.each.parked.WithLabelValues(name, states.Dead)
	return Counters{all: m, name: name, Passes: m.each.passes.WithLabelValues(name), Down: m.each.down.WithLabelValues(name),
		Misconfigured: m.each.misconfigured.WithLabelValues(name), Stopped: m.each.stopped.WithLabelValues(name)}
}

func (r *Counters) Attempted(k sinks.Kind) {
	if r.outcomes[k] == nil {
		r.outcomes[k] = r.all.each.deliveries.WithLabelValues(r.name, k.String())
	}
	r.outcomes[k].Inc()
}

// Parked counts an exception.
func (r *Counters) Parked(state string) { r.all.each.parked.WithLabelValues(r.name, state).Inc() }

// Filtered counts a message that the filter has left out.
func (r *Counters) Filtered() {
	if r.filtered == nil {
		r.filtered = r.all.each.filtered.WithLabelValues(r.name)
	}
	r.filtered.Inc()
}

// Evaluated counts that an expression was evaluated. It may be called by several goroutines at once.
func (r *Counters) Evaluated() { r.all.evaluated.Inc() }

func (r *Counters) Arrived(after time.Duration) {
	if r.latency == nil {
		r.latency = r.all.each.latency.WithLabelValues(r.name)
	}
	r.latency.Observe(max(0, after.Seconds()))
}

// Forget ends the series of subscriptions that are gone, or another relay's to tell of.
func (m *Metrics) Forget(gone func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.names {
		if !gone(name) {
			continue
		}
		for _, v := range m.each.all {
			if v.further == nil {
				v.DeleteLabelValues(name)
			}
			for _, value := range v.further {
				v.DeleteLabelValues(name, value)
			}
		}
		delete(m.names, name)
	}
}

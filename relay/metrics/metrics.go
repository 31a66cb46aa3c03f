package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// Metrics are kept whether or not anybody collects them.
type Metrics struct {
	Ticks     *prometheus.CounterVec
	Gaps      prometheus.Counter
	Completed prometheus.Counter
	parked    *prometheus.CounterVec
	Saves     *prometheus.CounterVec
	Emptied   prometheus.Counter
	Expired   *prometheus.CounterVec
	Fired     prometheus.Counter
	Owned     prometheus.Gauge
	Unable    prometheus.Gauge

	each each

	mu    sync.Mutex
	names map[string]bool // subscriptions that have series
}

// each are the metrics that every subscription has by itself.
type each struct {
	deliveries    *prometheus.CounterVec
	latency       *prometheus.HistogramVec
	passes        *prometheus.CounterVec
	down, stopped *prometheus.GaugeVec
	misconfigured *prometheus.GaugeVec
}

// New makes the metrics and registers them, if r is not nil. This is the list of all that the engine counts.
func New(r prometheus.Registerer) *Metrics {
	l := list{r}
	return &Metrics{
		names:     make(map[string]bool),
		Ticks:     l.counters("ticks_total", "Looks at the database for new messages, by what they were: stream, table or audit.", "kind"),
		Gaps:      l.counter("stream_gaps_total", "Times that the stream was given up for the table."),
		Completed: l.counter("windows_completed_total", "Windows that the stream did not bring whole and the table completed."),
		parked:    l.counters("parked_total", "Messages that became an exception, by state.", "subscription", "state"),
		Saves:     l.counters("saves_total", "Saves of progress, by result.", "result"),
		Expired:   l.counters("expired_total", "Dead and discarded messages that were removed after their retention, by state.", "state"),
		Emptied:   l.counter("segments_emptied_total", "Segments of the outbox that were emptied."),
		Fired:     l.counter("schedule_runs_total", "Messages that this relay has put into the outbox for schedules."),
		Owned:     l.gauge("cursors_owned", "Subscriptions that this relay delivers."),
		Unable:    l.gauge("subscriptions_unable", "Subscriptions that this relay leaves to others, for something that it lacks."),
		each: each{
			deliveries: l.counters("deliveries_total", "Delivery attempts by outcome.", "subscription", "outcome"),
			latency: l.histograms("delivery_latency_seconds", "Time from INSERT to accepted by the destination, of messages delivered at the first attempt.",
				prometheus.ExponentialBuckets(0.0005, 3, 12), "subscription"),
			passes: l.counters("passes_total", "Passes over the table to catch up.", "subscription"),
			down:   l.gauges("destination_down", "1 while the breaker of a subscription's destination is open.", "subscription"),
			misconfigured: l.gauges("destination_misconfigured", "1 while a subscription's destination counts as down for something that somebody has to change: credentials, a topic or stream that is missing, TLS.",
				"subscription"),
			stopped: l.gauges("intake_stopped", "1 while a subscription takes nothing in because as many messages wait as max_parked or max_scheduled allows.",
				"subscription"),
		},
	}
}

// vector is what has series of subscriptions, by further labels of these values.
type vector struct {
	*prometheus.MetricVec
	further []string
}

// ofSubscriptions lists them all: what is missing here leaves series behind.
func (m *Metrics) ofSubscriptions() []vector {
	var kinds []string
	for k := range sinks.KindGone + 1 {
		kinds = append(kinds, k.String())
	}
	return []vector{{m.each.deliveries.MetricVec, kinds}, {m.parked.MetricVec, states.Names(nil)}, {m.each.latency.MetricVec, nil}, {m.each.passes.MetricVec, nil},
		{m.each.down.MetricVec, nil}, {m.each.misconfigured.MetricVec, nil}, {m.each.stopped.MetricVec, nil}}
}

// Subscription are one subscription's. Series that are looked up for each message are looked up once, and made when there is something
// to count: ten thousand subscriptions that nobody writes to are not worth a quarter of a million lines.
type Subscription struct {
	all      *Metrics
	name     string
	outcomes [sinks.KindGone + 1]prometheus.Counter
	latency  prometheus.Observer
	Passes   prometheus.Counter
	Down     prometheus.Gauge
	Stopped  prometheus.Gauge
	// Misconfigured is 1 where Down is for something that somebody has to change.
	Misconfigured prometheus.Gauge
}

func (m *Metrics) Runner(name string) Subscription {
	m.mu.Lock()
	m.names[name] = true
	m.mu.Unlock()
	return Subscription{all: m, name: name, Passes: m.each.passes.WithLabelValues(name), Down: m.each.down.WithLabelValues(name),
		Misconfigured: m.each.misconfigured.WithLabelValues(name), Stopped: m.each.stopped.WithLabelValues(name)}
}

func (r *Subscription) Attempted(k sinks.Kind) {
	if r.outcomes[k] == nil {
		r.outcomes[k] = r.all.each.deliveries.WithLabelValues(r.name, k.String())
	}
	r.outcomes[k].Inc()
}

// Parked counts an exception.
func (r *Subscription) Parked(state string) { r.all.parked.WithLabelValues(r.name, state).Inc() }

func (r *Subscription) Arrived(after time.Duration) {
	if r.latency == nil {
		r.latency = r.all.each.latency.WithLabelValues(r.name)
	}
	r.latency.Observe(max(0, after.Seconds()))
}

// Forget ends the series of subscriptions that are gone. Those of one that went to another relay stay: it may come back.
func (m *Metrics) Forget(gone func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	vectors := m.ofSubscriptions()
	for name := range m.names {
		if !gone(name) {
			continue
		}
		for _, v := range vectors {
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

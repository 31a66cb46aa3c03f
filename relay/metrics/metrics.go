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
	Ticks      *prometheus.CounterVec
	Gaps       prometheus.Counter
	Completed  prometheus.Counter
	deliveries *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	Parked     *prometheus.CounterVec
	passes     *prometheus.CounterVec
	Saves      *prometheus.CounterVec
	Emptied    prometheus.Counter
	Expired    *prometheus.CounterVec
	Owned      prometheus.Gauge
	Unable     prometheus.Gauge
	down       *prometheus.GaugeVec
	stopped    *prometheus.GaugeVec

	mu    sync.Mutex
	names map[string]bool // subscriptions that have series
}

func New(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help}, labels)
	}
	plain := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help})
	}
	m := &Metrics{
		names:      make(map[string]bool),
		Ticks:      counter("ticks_total", "Looks at the database for new messages, by what they were: stream, table or audit.", "kind"),
		Gaps:       plain("stream_gaps_total", "Times that the stream was given up for the table."),
		Completed:  plain("windows_completed_total", "Windows that the stream did not bring whole and the table completed."),
		deliveries: counter("deliveries_total", "Delivery attempts by outcome.", "subscription", "outcome"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "postrider", Name: "delivery_latency_seconds",
			Help:    "Time from INSERT to accepted by the destination, of messages delivered at the first attempt.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 12)}, []string{"subscription"}),
		Parked:  counter("parked_total", "Messages that became an exception, by state.", "subscription", "state"),
		passes:  counter("passes_total", "Passes over the table to catch up.", "subscription"),
		Saves:   counter("saves_total", "Saves of progress, by result.", "result"),
		Expired: counter("expired_total", "Dead and discarded messages that were removed after their retention, by state.", "state"),
		Emptied: plain("segments_emptied_total", "Segments of the outbox that were emptied."),
		Owned: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "postrider", Name: "cursors_owned",
			Help: "Subscriptions that this relay delivers."}),
		Unable: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "postrider", Name: "subscriptions_unable",
			Help: "Subscriptions that this relay leaves to others, for something that it lacks."}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "postrider", Name: "destination_down",
			Help: "1 while the breaker of a subscription's destination is open."}, []string{"subscription"}),
		stopped: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "postrider", Name: "intake_stopped",
			Help: "1 while a subscription takes nothing in because as many messages wait as max_parked or max_scheduled allows."}, []string{"subscription"}),
	}
	if r != nil {
		r.MustRegister(m.Ticks, m.Gaps, m.Completed, m.deliveries, m.latency, m.Parked, m.passes, m.Saves, m.Emptied, m.Expired, m.Owned, m.Unable, m.down, m.stopped)
	}
	return m
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
}

func (m *Metrics) Runner(name string) Subscription {
	m.mu.Lock()
	m.names[name] = true
	m.mu.Unlock()
	return Subscription{all: m, name: name, Passes: m.passes.WithLabelValues(name), Down: m.down.WithLabelValues(name),
		Stopped: m.stopped.WithLabelValues(name)}
}

func (r *Subscription) Attempted(k sinks.Kind) {
	if r.outcomes[k] == nil {
		r.outcomes[k] = r.all.deliveries.WithLabelValues(r.name, k.String())
	}
	r.outcomes[k].Inc()
}

func (r *Subscription) Arrived(after time.Duration) {
	if r.latency == nil {
		r.latency = r.all.latency.WithLabelValues(r.name)
	}
	r.latency.Observe(max(0, after.Seconds()))
}

// Forget ends the series of subscriptions that are gone. Those of one that went to another relay stay: it may come back.
func (m *Metrics) Forget(gone func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.names {
		if !gone(name) {
			continue
		}
		for k := range sinks.KindGone + 1 {
			m.deliveries.DeleteLabelValues(name, k.String())
		}
		for _, state := range states.Names(nil) {
			m.Parked.DeleteLabelValues(name, state)
		}
		m.latency.DeleteLabelValues(name)
		m.passes.DeleteLabelValues(name)
		m.down.DeleteLabelValues(name)
		m.stopped.DeleteLabelValues(name)
		delete(m.names, name)
	}
}

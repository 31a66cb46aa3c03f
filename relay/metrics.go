package relay

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/sinks"
)

// metrics are kept whether or not anybody collects them.
type metrics struct {
	ticks      *prometheus.CounterVec
	gaps       prometheus.Counter
	completed  prometheus.Counter
	deliveries *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	parked     *prometheus.CounterVec
	passes     *prometheus.CounterVec
	saves      *prometheus.CounterVec
	emptied    prometheus.Counter
	owned      prometheus.Gauge
	unable     prometheus.Gauge
	down       *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help}, labels)
	}
	plain := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help})
	}
	m := &metrics{
		ticks:      counter("ticks_total", "Looks at the database for new messages, by what they were: stream, table or audit.", "kind"),
		gaps:       plain("stream_gaps_total", "Times that the stream was given up for the table."),
		completed:  plain("windows_completed_total", "Windows that the stream did not bring whole and the table completed."),
		deliveries: counter("deliveries_total", "Delivery attempts by outcome.", "subscription", "outcome"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "postrider", Name: "delivery_latency_seconds",
			Help:    "Time from INSERT to accepted by the destination, of messages delivered at the first attempt.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 12)}, []string{"subscription"}),
		parked:  counter("parked_total", "Messages that became an exception, by state.", "subscription", "state"),
		passes:  counter("passes_total", "Passes over the table to catch up.", "subscription"),
		saves:   counter("saves_total", "Saves of progress, by result.", "result"),
		emptied: plain("segments_emptied_total", "Segments of the outbox that were emptied."),
		owned: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "postrider", Name: "cursors_owned",
			Help: "Subscriptions that this relay delivers."}),
		unable: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "postrider", Name: "subscriptions_unable",
			Help: "Subscriptions that this relay leaves to others, for something that it lacks."}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "postrider", Name: "destination_down",
			Help: "1 while the breaker of a subscription's destination is open."}, []string{"subscription"}),
	}
	if r != nil {
		r.MustRegister(m.ticks, m.gaps, m.completed, m.deliveries, m.latency, m.parked, m.passes, m.saves, m.emptied, m.owned, m.unable, m.down)
	}
	return m
}

func (m *metrics) tick(kind string) { m.ticks.WithLabelValues(kind).Inc() }

// runnerMetrics are one subscription's, looked up once.
type runnerMetrics struct {
	outcomes [sinks.KindGone + 1]prometheus.Counter
	latency  prometheus.Observer
	passes   prometheus.Counter
	down     prometheus.Gauge
}

func (m *metrics) runner(name string) runnerMetrics {
	r := runnerMetrics{latency: m.latency.WithLabelValues(name), passes: m.passes.WithLabelValues(name), down: m.down.WithLabelValues(name)}
	for k := range r.outcomes {
		r.outcomes[k] = m.deliveries.WithLabelValues(name, sinks.Kind(k).String())
	}
	return r
}

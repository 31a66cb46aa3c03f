package metrics

import "github.com/prometheus/client_golang/prometheus"

// list makes metrics of Postrider's, and registers each.
type list struct{ prometheus.Registerer }

func registered[T prometheus.Collector](l list, made T) T {
	if l.Registerer != nil {
		l.MustRegister(made)
	}
	return made
}

func (l list) counter(name, help string) prometheus.Counter {
	return registered(l, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help}))
}

func (l list) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return registered(l, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "postrider", Name: name, Help: help}, labels))
}

func (l list) gauge(name, help string) prometheus.Gauge {
	return registered(l, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "postrider", Name: name, Help: help}))
}

func (l list) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return registered(l, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "postrider", Name: name, Help: help}, labels))
}

func (l list) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return registered(l, prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "postrider", Name: name, Help: help, Buckets: buckets}, labels))
}

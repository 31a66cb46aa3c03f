package main

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/sinks"
)

// meters are those of the kinds of destinations that this process has delivered to.
type meters struct {
	mu     sync.Mutex
	byKind map[string]*sinks.Meter
}

var _ prometheus.Collector = (*meters)(nil)

// of returns a kind's.
func (all *meters) of(kind string) *sinks.Meter {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.byKind == nil {
		all.byKind = make(map[string]*sinks.Meter)
	}
	m := all.byKind[kind]
	if m == nil {
		m = &sinks.Meter{}
		all.byKind[kind] = m
	}
	return m
}

// measured is what a metric takes of what was counted.
var measured = []struct {
	desc *prometheus.Desc
	take func(sinks.Measured) float64
}{
	{metrics.Desc("sink_connections_total"), func(m sinks.Measured) float64 { return float64(m.Connections) }},
	{metrics.Desc("sink_connect_failures_total"), func(m sinks.Measured) float64 { return float64(m.ConnectFailures) }},
	{metrics.Desc("sink_batches_total"), func(m sinks.Measured) float64 { return float64(m.Batches) }},
	{metrics.Desc("sink_batch_messages_total"), func(m sinks.Measured) float64 { return float64(m.Messages) }},
	{metrics.Desc("sink_batch_seconds_total"), func(m sinks.Measured) float64 { return m.Busy.Seconds() }},
	{metrics.Desc("sink_blocked_seconds_total"), func(m sinks.Measured) float64 { return m.Blocked.Seconds() }},
}

// Describe implements prometheus.Collector.
func (all *meters) Describe(to chan<- *prometheus.Desc) {
	for _, m := range measured {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (all *meters) Collect(to chan<- prometheus.Metric) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for kind, meter := range all.byKind {
		now := meter.Read()
		for _, m := range measured {
			to <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, m.take(now), kind)
		}
	}
}

package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// collector tells what is so now: nothing outlives what it is about.
type collector struct {
	now   func() *Now
	descs []*prometheus.Desc // of the table's entries that are read, else nil
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(now func() *Now) *collector {
	c := &collector{now: now, descs: make([]*prometheus.Desc, len(table))}
	for i, d := range table {
		if d.read != nil {
			c.descs[i] = Desc(d.name)
		}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		if desc != nil {
			to <- desc
		}
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	now := c.now()
	for i, desc := range c.descs {
		if desc == nil {
			continue
		}
		table[i].read(now, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
		})
	}
}

// Desc describes a metric of the table for a collector. There is no other.
func Desc(name string) *prometheus.Desc {
	d := definitionOf(name)
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", d.name), d.help, d.labels, nil)
}

// CounterVec makes a counter of the table. There is no other.
func CounterVec(name string) *prometheus.CounterVec {
	d := definitionOf(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: d.name, Help: d.help}, d.labels)
}

func definitionOf(name string) definition {
	for _, d := range table {
		if d.name == name {
			return d
		}
	}
	panic(fmt.Sprintf("metric %q: there is no such metric", name))
}

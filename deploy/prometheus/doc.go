// Package prometheus has the alerts, and holds them and the dashboard to what relays tell, with packages of Prometheus' own. It is a module of its own,
// so that nothing else depends on these.
package prometheus

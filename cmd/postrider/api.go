package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/api"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/events"
	"github.com/postrider/postrider/internal/api/jobs"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/console"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/watch"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// apiService is where people and programs look and steer, and workers ask for jobs.
type apiService struct {
	hub      *pull.Hub
	gate     *access.Gate
	feed     *watch.Feed
	listener net.Listener
	relay    func() *relay.Relay
	settings *config.Settings
	log      *slog.Logger
}

// jobsCollector tells metrics what the hub knows. Series end with what they are about.
type jobsCollector struct{ hub *pull.Hub }

var (
	jobsDesc       = metrics.Desc("jobs")
	jobTakersDesc  = metrics.Desc("job_takers")
	jobTakeDesc    = metrics.Desc("job_last_take_timestamp_seconds")
	jobWorkersDesc = metrics.Desc("job_workers")
)

// Describe implements prometheus.Collector.
func (c jobsCollector) Describe(to chan<- *prometheus.Desc) {
	to <- jobsDesc
	to <- jobTakersDesc
	to <- jobTakeDesc
	to <- jobWorkersDesc
}

// Collect implements prometheus.Collector.
func (c jobsCollector) Collect(to chan<- prometheus.Metric) {
	workers, lines := c.hub.Status()
	for _, l := range lines {
		to <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(l.Waiting), l.Subscription, "waiting")
		to <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(l.Out), l.Subscription, "out")
		to <- prometheus.MustNewConstMetric(jobTakersDesc, prometheus.GaugeValue, float64(l.Takers), l.Subscription)
		to <- prometheus.MustNewConstMetric(jobTakeDesc, prometheus.GaugeValue, float64(l.LastTake.UnixMilli())/1000, l.Subscription)
	}
	live := 0
	for _, w := range workers {
		if time.Since(w.LastCall) < time.Minute {
			live++
		}
	}
	to <- prometheus.MustNewConstMetric(jobWorkersDesc, prometheus.GaugeValue, float64(live))
}

// openAPI opens the port, and lets subscriptions be opened at the hub. It returns nil if no worker shall ask this relay.
func openAPI(s *config.Settings, r func() *relay.Relay, log *slog.Logger, registry prometheus.Registerer) (*apiService, error) {
	if !s.ServesAPI() {
		return nil, nil
	}
	gate, err := access.NewGate(s.APITokens.Tokens, log)
	if err != nil {
		return nil, err
	}
	listener, err := listen("POSTRIDER_API_ADDR", string(s.APIAddr))
	if err != nil {
		return nil, err
	}
	lost := func(l pull.Lost) { r().WorkerLost(l.Worker, l.Reason, l.Jobs) }
	hub := pull.NewHub(func() bool { return r().Confirmed() }, lost, log)
	registry.MustRegister(jobsCollector{hub})
	return &apiService{hub, gate, &watch.Feed{}, listener, r, s, log}, nil
}

// workers is what opens subscriptions that workers come for, nil if there is none. It may be called on nil.
func (a *apiService) workers() func(sinks.Target) (sinks.Sink, error) {
	if a == nil {
		return nil
	}
	return a.hub.Workers
}

// serve returns when ctx is cancelled.
func (a *apiService) serve(ctx context.Context) error {
	workers := jobs.New(a.hub, a.relay().Directory)
	defer workers.Close()
	db, err := admin.NewPool(ctx, string(a.settings.DatabaseURL), mostLooks)
	if err != nil {
		return err
	}
	defer db.Close()
	pages := console.New(a.console(db))
	defer pages.Close()
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/", api.New(a.programs(ctx, db)))
	mux.Handle("/api/v1/jobs/", workers)
	mux.Handle(events.Path, events.New(a.listeners(db)))
	return serveHTTP(ctx, a.listener, a.gate.Wrap(mux), connsFor(apiShare, mostAPIConns))
}

// mostLooks is how many connections those who look have together.
const mostLooks = 4

// programs is what programs need of this process.
func (a *apiService) programs(ctx context.Context, db *dbconn.Pool) api.Config {
	return api.Config{
		DB:           db.With,
		Examine:      func(ctx context.Context) []doctor.Finding { return doctor.Examine(ctx, doctorOptions(a.settings)) },
		HidePayloads: bool(a.settings.APIHidePayloads),
		Version:      buildVersion(),
		Feed:         a.feed,
		Stopping:     ctx.Done(),
		Log:          func(err error) { a.log.Error("a call of the API failed", "error", dbconn.Explain(err)) },
	}
}

// listeners is what those who listen need of this process.
func (a *apiService) listeners(db *dbconn.Pool) events.Config {
	return events.Config{Feed: a.feed, Directory: a.relay().Directory,
		Status: func(ctx context.Context) (report *admin.StatusReport, err error) {
			err = db.With(ctx, func(db *dbconn.Conn) error {
				report, err = admin.Status(ctx, db)
				return err
			})
			return report, err
		},
		Message: func(ctx context.Context, id int64) (m *admin.Deliveries, err error) {
			err = db.With(ctx, func(db *dbconn.Conn) error {
				shown, err := admin.ShowDeliveries(ctx, db, id, "")
				m = &shown
				return err
			})
			return m, err
		}}
}

// console is what people's pages need of this process.
func (a *apiService) console(db *dbconn.Pool) console.Config {
	return console.Config{
		DB:           db.With,
		Workers:      a.hub.Status,
		Doctor:       func(ctx context.Context) []doctor.Finding { return doctor.Examine(ctx, doctorOptions(a.settings)) },
		Retention:    a.settings.Retention.OrTiny(),
		HidePayloads: bool(a.settings.APIHidePayloads),
		Name:         string(a.settings.Name),
		Version:      buildVersion(),
		Log:          a.log,
	}
}

// close is for a service that was never served. On nil it does nothing.
func (a *apiService) close() {
	if a != nil {
		a.listener.Close()
	}
}

// apiOf is what the relay tells others of the port, nil if there is none.
func apiOf(s *config.Settings) *relay.API {
	if !s.ServesAPI() {
		return nil
	}
	return &relay.API{URL: strings.TrimRight(string(s.APIUrl), "/")}
}

package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/internal/traces"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// services are the relay and the ports of this process.
type services struct {
	relay     *relay.Relay
	health    net.Listener     // nil: there is none
	callbacks *callbackService // nil: there is none
	api       *apiService      // nil: there is none
	log       *slog.Logger
	registry  *prometheus.Registry
}

// openServices checks the rest of the settings and opens the ports. Nothing is connected or served yet.
func openServices(s *config.Settings, log *slog.Logger, registry *prometheus.Registry, secrets *secret.Store, specs []subscription.Spec, spans *traces.Traces) (all *services, err error) {
	all = &services{log: log, registry: registry}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	urls, err := callbackURLs(s, log)
	if err != nil {
		return all, err
	}
	if all.api, err = openAPI(s, func() *relay.Relay { return all.relay }, log, registry); err != nil {
		return all, err
	}
	counted := &meters{}
	registry.MustRegister(counted)
	with := sinks.Surroundings{Log: log, MeterOf: counted.of, Secrets: secrets, CallbackURL: makeURL(s, urls), Workers: all.api.workers(), Version: buildVersion()}
	engine := relayConfig(s, specs, with, registry, spans)
	if engine.API != nil {
		engine.API.Watch = all.api.feed
	}
	if all.relay, err = relay.New(engine); err != nil {
		return all, err
	}
	if all.callbacks, err = openCallbacks(s, urls, all.relay.ReadCallbacks, secrets, log, registry); err != nil {
		return all, err
	}
	all.health, err = listen("POSTRIDER_HTTP_ADDR", string(s.HTTPAddr))
	return all, err
}

// serve serves what is open until ctx is cancelled.
func (all *services) serve(ctx context.Context, group *errgroup.Group, ready *readiness) {
	if all.health != nil {
		all.log.Info("serving /healthz, /readyz and /metrics", "address", all.health.Addr().String())
		group.Go(func() error {
			return serveHTTP(ctx, all.health, newHandler(ready, all.registry), connsFor(healthShare, mostHealthConns))
		})
	}
	if all.callbacks != nil {
		all.log.Info("receiving callbacks", "address", all.callbacks.listener.Addr().String())
		group.Go(func() error { return all.callbacks.serve(ctx) })
	}
	if all.api != nil {
		all.log.Info("serving the API", "address", all.api.listener.Addr().String())
		group.Go(func() error { return all.api.serve(ctx) })
	}
}

// close is for services that were never served.
func (all *services) close() {
	all.callbacks.close()
	all.api.close()
	if all.health != nil {
		all.health.Close()
	}
}

package main

import (
	"context"
	"log/slog"
	"net"
	"strings"

	"github.com/postrider/postrider/internal/api/jobs"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// apiService is where workers ask for jobs.
type apiService struct {
	hub      *pull.Hub
	listener net.Listener
	relay    func() *relay.Relay
}

// openAPI opens the port, and lets subscriptions be opened at the hub. It returns nil if no worker shall ask this relay.
func openAPI(s *config.Settings, r func() *relay.Relay, log *slog.Logger) (*apiService, error) {
	if !s.ServesAPI() {
		return nil, nil
	}
	listener, err := listen("POSTRIDER_API_ADDR", string(s.APIAddr))
	if err != nil {
		return nil, err
	}
	return &apiService{pull.NewHub(func() bool { return r().Confirmed() }, log), listener, r}, nil
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
	handler := jobs.New(a.hub, a.relay().Directory)
	defer handler.Close()
	return serveHTTP(ctx, a.listener, handler, connsFor(apiShare, mostAPIConns))
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

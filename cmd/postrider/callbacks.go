package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/callback"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/secret"
)

// callbackURLs follows the references. It returns nil where there are no settings of callbacks.
func callbackURLs(s *config.Settings, log *slog.Logger) (*callback.URLs, error) {
	if s.CallbackURL == "" && !s.ReceivesCallbacks() {
		return nil, nil
	}
	urls, err := callback.NewURLs(callback.Config{BaseURL: string(s.CallbackURL), Secrets: s.CallbackSecrets, Log: log})
	if err != nil {
		return nil, fmt.Errorf("POSTRIDER_CALLBACK_SECRETS: %w", err)
	}
	return urls, nil
}

// makeURL returns what makes callback URLs, nil if requests shall have none.
func makeURL(s *config.Settings, urls *callback.URLs) func(subscription string, row, token int64) string {
	if s.CallbackURL == "" {
		return nil
	}
	return urls.URL
}

// callbackService receives callbacks on a port of its own.
type callbackService struct {
	listener net.Listener
	handler  *callback.Handler
	store    *callback.Store
}

// openCallbacks opens the port. It returns nil if this relay shall receive no callbacks. Nothing is connected yet.
func openCallbacks(s *config.Settings, urls *callback.URLs, look func(), secrets *secret.Store, log *slog.Logger, registry prometheus.Registerer) (*callbackService, error) {
	if !s.ReceivesCallbacks() {
		return nil, nil
	}
	store, err := callback.NewStore(string(s.DatabaseURL), secrets)
	if err != nil {
		return nil, err
	}
	listener, err := listen("POSTRIDER_CALLBACK_ADDR", string(s.CallbackAddr))
	if err != nil {
		store.Close()
		return nil, err
	}
	return &callbackService{listener, callback.NewHandler(urls, store, look, log, registry), store}, nil
}

// serve returns when ctx is cancelled and nobody uses the database any more.
func (c *callbackService) serve(ctx context.Context) error {
	defer c.store.Close()
	return serveHTTP(ctx, c.listener, c.handler, connsFor(callbackShare, mostCallbackConns))
}

// close is for a service that was never served. On nil it does nothing.
func (c *callbackService) close() {
	if c != nil {
		c.listener.Close()
		c.store.Close()
	}
}

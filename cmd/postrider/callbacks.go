package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/sinks/webhook"
)

// referenceList is a list of references to secrets, separated by commas.
type referenceList []string

// Decode splits at commas; blanks around a reference and empty items are dropped. What is no reference is found later.
func (l *referenceList) Decode(text string) error { return (*topicList)(l).Decode(text) }

// String hides what should have been a reference and is not.
func (l referenceList) String() string {
	var texts []string
	for _, ref := range l {
		texts = append(texts, fmt.Sprint(destination.RedactReferences(ref)))
	}
	return strings.Join(texts, ",")
}

// receivesCallbacks says whether this relay listens for callbacks.
func (s *settings) receivesCallbacks() bool { return s.CallbackAddr != "" && s.CallbackAddr != "off" }

// checkCallbacks says which setting of callbacks is wrong or missing. It follows no reference: most commands need none.
func (s *settings) checkCallbacks() error {
	if err := (webhook.CallbackConfig{BaseURL: s.CallbackURL}).Validate(); err != nil {
		return fmt.Errorf("POSTRIDER_CALLBACK_URL=%s: %w", destination.Redact(s.CallbackURL), err)
	}
	if err := (webhook.CallbackConfig{Secrets: s.CallbackSecrets}).Validate(); err != nil {
		return fmt.Errorf("POSTRIDER_CALLBACK_SECRETS: %w", err)
	}
	const needed = "needs POSTRIDER_CALLBACK_SECRETS, the secrets that sign the URLs, such as file:/run/callbacks"
	switch {
	case len(s.CallbackSecrets) > 0:
	case s.CallbackURL != "":
		return fmt.Errorf("POSTRIDER_CALLBACK_URL=%s: %s", s.CallbackURL, needed)
	case s.receivesCallbacks():
		return fmt.Errorf("POSTRIDER_CALLBACK_ADDR=%s: %s", s.CallbackAddr, needed)
	}
	if s.receivesCallbacks() && s.CallbackAddr == s.HTTPAddr && !strings.HasSuffix(s.HTTPAddr, ":0") {
		return fmt.Errorf("POSTRIDER_CALLBACK_ADDR=%s: must be another address than POSTRIDER_HTTP_ADDR, which is not for the public", s.CallbackAddr)
	}
	return nil
}

// callbackURLs follows the references. It returns nil where there are no settings of callbacks.
func (s *settings) callbackURLs(log *slog.Logger) (*webhook.Callbacks, error) {
	if s.CallbackURL == "" && !s.receivesCallbacks() {
		return nil, nil
	}
	urls, err := webhook.NewCallbacks(webhook.CallbackConfig{BaseURL: s.CallbackURL, Secrets: s.CallbackSecrets, Log: log})
	if err != nil {
		return nil, fmt.Errorf("POSTRIDER_CALLBACK_SECRETS: %w", err)
	}
	return urls, nil
}

// makeURL returns what makes callback URLs, nil if requests shall have none.
func (s *settings) makeURL(urls *webhook.Callbacks) func(subscription string, row, token int64) string {
	if s.CallbackURL == "" {
		return nil
	}
	return urls.URL
}

// callbackService receives callbacks on a port of its own.
type callbackService struct {
	listener net.Listener
	handler  *callbackHandler
}

// openCallbacks opens the port. It returns nil if this relay shall receive no callbacks. Nothing is connected yet.
func (s *settings) openCallbacks(urls *webhook.Callbacks, look func(), log *slog.Logger, registry prometheus.Registerer) (*callbackService, error) {
	if !s.receivesCallbacks() {
		return nil, nil
	}
	store, err := newCallbackStore(s.DatabaseURL)
	if err != nil {
		return nil, err
	}
	listener, err := listen("POSTRIDER_CALLBACK_ADDR", s.CallbackAddr)
	if err != nil {
		store.close()
		return nil, err
	}
	return &callbackService{listener, newCallbackHandler(urls, store, look, log, registry)}, nil
}

// serve returns when ctx is cancelled and nobody uses the database any more.
func (c *callbackService) serve(ctx context.Context) error {
	defer c.handler.store.close()
	return serveHTTP(ctx, c.listener, c.handler, connsFor(callbackShare, mostCallbackConns))
}

// close is for a service that was never served. On nil it does nothing.
func (c *callbackService) close() {
	if c != nil {
		c.listener.Close()
		c.handler.store.close()
	}
}

package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks/pull"
)

// Handler answers workers. Make one with New.
type Handler struct {
	hub       *pull.Hub
	directory func(ctx context.Context, names ...string) *relay.Directory
	client    *http.Client // to other relays
	mux       *http.ServeMux
}

// New makes a handler that asks the hub, and relays that the directory names.
func New(hub *pull.Hub, directory func(ctx context.Context, names ...string) *relay.Directory) *Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true}
	h := &Handler{hub: hub, directory: directory, mux: http.NewServeMux(), client: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for verb, answer := range map[string]func(http.ResponseWriter, *http.Request) error{"take": h.take, "settle": h.settle, "beat": h.beat} {
		h.mux.HandleFunc("/api/v1/jobs/"+verb, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.Header().Set("Allow", http.MethodPost)
				refuse(w, problem.New(http.StatusMethodNotAllowed, "wrong_method", "%s: %s must be a POST", r.Method, r.URL.Path))
				return
			}
			if who := access.Of(r.Context()); !who.May(access.Worker) && r.Header.Get(access.RelayHeader) == "" {
				refuse(w, who.Refusal(access.Worker)) // before anything is read
				return
			}
			if err := answer(w, r); err != nil {
				refuse(w, err)
			}
		})
	}
	h.mux.HandleFunc("GET /api/v1/jobs/workers", h.workers)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, problem.New(http.StatusNotFound, "not_found", "nothing is at %.100q: there are /api/v1/jobs/take, settle, beat and workers", r.URL.Path))
	})
	return h
}

// ServeHTTP answers requests that an access.Gate has let through.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" {
		refuse(w, problem.New(http.StatusForbidden, "from_a_page", "Origin %.100q: workers are no pages of a browser", origin))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// workers shows what this relay knows; another one knows its own.
func (h *Handler) workers(w http.ResponseWriter, r *http.Request) {
	if who := access.Of(r.Context()); !who.May(access.Viewer) {
		refuse(w, who.Refusal(access.Viewer))
		return
	}
	workers, lines := h.hub.Status()
	text, err := json.Marshal(map[string]any{"workers": append([]pull.WorkerStatus{}, workers...), "subscriptions": append([]pull.LineStatus{}, lines...)})
	if err != nil {
		refuse(w, err)
		return
	}
	respond(w, text)
}

// Close lets go of the connections to other relays.
func (h *Handler) Close() { h.client.CloseIdleConnections() }

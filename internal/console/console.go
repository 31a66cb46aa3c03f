package console

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/sinks/pull"
)

// patience is how long a page may take to ask the database.
const patience = 10 * time.Second

// Config is what the console needs of the process that serves it.
type Config struct {
	// DB lends a connection.
	DB func(ctx context.Context, f func(*dbconn.Conn) error) error
	// Workers says what this relay knows of those who come for jobs. Nil: it has none.
	Workers func() ([]pull.WorkerStatus, []pull.LineStatus)
	// Doctor examines the database.
	Doctor func(ctx context.Context) []doctor.Finding
	// Retention is how long settled messages are to stay.
	Retention time.Duration
	// HidePayloads hides from viewers what messages carry.
	HidePayloads bool
	Name         string // the relay's
	Version      string
	Log          *slog.Logger
}

// Handler serves the console. Make one with New.
type Handler struct {
	Config
	mux     *http.ServeMux
	sampler *sampler
	views   views

	examining chan struct{} // has room for one
}

// New makes a handler. Close ends what it runs in the background.
func New(c Config) *Handler {
	h := &Handler{Config: c, mux: http.NewServeMux(), views: parseViews(), examining: make(chan struct{}, 1)}
	h.sampler = newSampler(func(ctx context.Context) (report *admin.StatusReport, err error) {
		err = c.DB(ctx, func(db *dbconn.Conn) error {
			report, err = admin.Status(ctx, db)
			return err
		})
		return report, err
	})
	h.mux.Handle("GET /assets/", serveAssets())
	h.mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, asset("icon.svg"), http.StatusMovedPermanently)
	})
	h.routes()
	return h
}

// routes are all pages and actions.
func (h *Handler) routes() {
	h.page("GET /", func(context.Context, *request) (*page, error) { return nil, errNoPage })
	h.action("POST /theme", access.Viewer, h.setTheme)

	h.page("GET /{$}", h.overview)
	h.page("GET /subscriptions/{name}", h.subscription)
	h.page("GET /subscriptions/{name}/replay", h.askReplay)
	h.action("POST /subscriptions/{name}/pause", access.Operator, h.pause)
	h.action("POST /subscriptions/{name}/resume", access.Operator, h.resume)
	h.action("POST /subscriptions/{name}/replay", access.Operator, h.replay)

	h.page("GET /messages", h.messages)
	h.page("GET /messages/find", h.findMessage)
	h.page("GET /messages/{id}", h.message)
	h.action("POST /messages/{id}/redrive", access.Operator, h.change("redriven", admin.Redrive))
	h.action("POST /messages/{id}/discard", access.Operator, h.change("discarded", admin.Discard))
	h.action("POST /messages/{id}/cancel", access.Operator, h.change("to be cancelled", cancelMessage))
	h.page("GET /dead", h.dead)

	h.page("GET /operations", h.operations)
	h.action("POST /operations", access.Operator, h.startOperation)
	h.page("GET /operations/{id}", h.operation)
	h.action("POST /operations/{id}/cancel", access.Operator, h.cancelOperation)

	h.page("GET /schedules", h.schedules)
	h.action("POST /schedules/{name}/pause", access.Operator, h.pauseSchedule)
	h.action("POST /schedules/{name}/resume", access.Operator, h.resumeSchedule)
	h.action("POST /schedules/{name}/run", access.Operator, h.runSchedule)

	h.page("GET /workers", h.workers)
	h.page("GET /relays", h.relays)
	h.page("GET /doctor", h.doctor)
}

// Close waits for what runs in the background.
func (h *Handler) Close() { h.sampler.close() }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "same-origin")
	h.mux.ServeHTTP(w, r)
}

// page serves what show returns at a pattern.
func (h *Handler) page(pattern string, show func(context.Context, *request) (*page, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		q := newRequest(r)
		var p *page
		err := q.allowed(access.Viewer)
		if err == nil {
			p, err = show(ctx, q)
		}
		if err != nil {
			p = h.failed(q, err)
		}
		if p.To != "" {
			http.Redirect(w, r, p.To, http.StatusSeeOther)
			return
		}
		h.render(w, q, p)
	})
}

// action does what was asked for by a form, and leads to the page that shows it. It asks for a right first.
func (h *Handler) action(pattern string, needs access.Role, do func(context.Context, *request) (*done, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		q := newRequest(r)
		if err := q.allowed(needs); err != nil {
			h.render(w, q, h.failed(q, err))
			return
		}
		if err := r.ParseForm(); err != nil {
			h.render(w, q, h.failed(q, badInput("the form cannot be read: %v", err)))
			return
		}
		d, err := do(ctx, q)
		if err != nil {
			h.render(w, q, h.failed(q, err))
			return
		}
		h.sampler.stale() // what is shown next is to show what was done
		if q.cookie != nil {
			http.SetCookie(w, q.cookie)
		}
		if d.say != "" || d.wrong != "" {
			setFlash(w, flash{d.say, d.wrong})
		}
		http.Redirect(w, r, d.to, http.StatusSeeOther)
	})
}

// done is what came of an action.
type done struct {
	to    string // the page to go on with: a path of the console's own
	say   string // what happened
	wrong string // what did not, if something did not
}

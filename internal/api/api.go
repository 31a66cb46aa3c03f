package api

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/watch"
)

// Config is what New needs.
type Config struct {
	// DB lends a connection.
	DB func(ctx context.Context, f func(*dbconn.Conn) error) error
	// Examine is the doctor.
	Examine func(ctx context.Context) []doctor.Finding
	// Log is told of errors that are nobody's fault.
	Log func(err error)
	// Version is the program's.
	Version string
	// HidePayloads hides from viewers what messages carry.
	HidePayloads bool
	// Feed tells what becomes of messages that this relay delivers.
	Feed *watch.Feed
	// Stopping is closed when the process stops: nobody waits any longer.
	Stopping <-chan struct{}
}

// API answers what stands in its document.
type API struct {
	Config
	mux  *http.ServeMux
	huma huma.API

	waiting atomic.Int32  // how many wait for a message
	looking chan struct{} // has room for those of them who look
}

const prefix = "/api/v1"

// Bounds of what is asked of the database.
const (
	lookTime   = 5 * time.Second
	changeTime = 30 * time.Second
	doctorTime = 30 * time.Second
)

// New makes the API. It is to stand behind an access.Gate.
func New(c Config) *API {
	a := &API{Config: c, mux: http.NewServeMux(), looking: make(chan struct{}, mostLooking)}
	shape()
	config := huma.DefaultConfig("Postrider", c.Version)
	config.Info.Description = "What a relay of Postrider knows and does. Errors are problem details (RFC 9457) with a code. Lists have pages: ask for the next one with before or after, as the answer says."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = prefix+"/openapi", "", ""
	config.CreateHooks = nil // no member $schema in answers
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "One of POSTRIDER_API_TOKENS. Without tokens none is needed."}}
	config.Security = []map[string][]string{{"token": {}}}
	a.huma = humago.New(a.mux, config)
	a.status()
	a.subscriptions()
	a.messages()
	a.parked()
	a.operations()
	a.schedules()
	a.apply()
	describeJobs(a.huma.OpenAPI())
	describeEvents(a.huma.OpenAPI())
	describeNulls(a.huma.OpenAPI())
	a.mux.HandleFunc("/", a.unknown)
	return a
}

// describeNulls says of members that are objects, and null where there is none, that they may be: the library takes an object for one that is
// always there.
func describeNulls(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas.Map()
	for schema, member := range map[string]string{"Deliveries": "content", "Delivery": "progress"} {
		own := schemas[schema].Properties[member]
		schemas[schema].Properties[member] = &huma.Schema{Description: own.Description, AnyOf: []*huma.Schema{{Ref: own.Ref}, {Type: "null"}}}
	}
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if who := access.Of(r.Context()); !who.May(access.Viewer) {
		problem.Write(w, who.Refusal(access.Viewer))
		return
	}
	if kind := r.Header.Get("Content-Type"); kind == "" && r.ContentLength != 0 && r.Method != http.MethodGet {
		problem.Write(w, problem.New(http.StatusUnsupportedMediaType, "not_json", "Content-Type: is missing: must be application/json"))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// unknown tells a path that is not there from a method that it does not know.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		problem.Write(w, problem.New(http.StatusNotFound, "not_found", "nothing is at %.100q: %s/openapi.json lists what there is", r.URL.Path, prefix))
		return
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	problem.Write(w, problem.New(http.StatusMethodNotAllowed, "wrong_method", "%s %.100s: must be one of %v", r.Method, r.URL.Path, allowed))
}

// answer is a body.
type answer[T any] struct{ Body T }

// operation says what register needs beside the function.
type operation struct {
	need         access.Role
	method, path string
	id, tag      string
	summary      string
	description  string
	time         time.Duration // lookTime, unless it is said
}

// register adds an operation that answers with a T.
func register[I, T any](a *API, o operation, f func(ctx context.Context, db *dbconn.Conn, in *I) (T, error)) {
	huma.Register(a.huma, o.describe(), func(ctx context.Context, in *I) (*answer[T], error) {
		out := new(answer[T])
		err := a.lend(ctx, o, func(ctx context.Context, db *dbconn.Conn) (err error) {
			out.Body, err = f(ctx, db, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	})
}

// lend runs f with a connection, within the operation's time, and makes of its error one that callers see.
func (a *API) lend(ctx context.Context, o operation, f func(ctx context.Context, db *dbconn.Conn) error) error {
	bounded, cancel := context.WithTimeout(ctx, o.limit())
	defer cancel()
	err := a.DB(bounded, func(db *dbconn.Conn) error { return f(bounded, db) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && bounded.Err() != nil:
		return tooLong(o.limit())
	}
	return a.problemOf(err)
}

func (o operation) limit() time.Duration {
	if o.time == 0 {
		return lookTime
	}
	return o.time
}

// describe is the operation as the document has it. Whoever may not is refused before anything is read.
func (o operation) describe() huma.Operation {
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable}
	if o.method != http.MethodGet {
		errs = append(errs, http.StatusConflict, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge)
	}
	return huma.Operation{Method: o.method, Path: prefix + o.path, OperationID: o.id, Tags: []string{o.tag}, Summary: o.summary,
		Description: o.description + "\n\nRole: " + o.need.String() + ".", Errors: errs, DefaultStatus: http.StatusOK, MaxBodyBytes: 32 << 20,
		Extensions: map[string]any{"x-role": o.need.String()},
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
			if who := access.Of(ctx.Context()); !who.May(o.need) {
				_, w := humago.Unwrap(ctx)
				problem.Write(w, who.Refusal(o.need))
				return
			}
			next(ctx)
		}}}
}

package events

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/hop"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/watch"
)

// Path is where it is served.
const Path = "/api/v1/events"

// Config is what New needs.
type Config struct {
	Feed      *watch.Feed
	Directory func(ctx context.Context, names ...string) *relay.Directory
	// Status says where the subscriptions stand.
	Status func(ctx context.Context) (*admin.StatusReport, error)
	// Message says where a message stands, without what it carries.
	Message func(ctx context.Context, id int64) (*admin.Deliveries, error)
}

// Handler serves the stream. Make one with New.
type Handler struct {
	Config
	status    recent
	attendant attendant
}

// New makes a handler.
func New(c Config) *Handler {
	h := &Handler{Config: c}
	h.status.read = c.Status
	h.attendant.h = h
	return h
}

const (
	keepAlive = 15 * time.Second
	// slowest is how long a write may take: a listener that reads nothing for so long is cut off.
	slowest = 20 * time.Second
	// lookTime is how long a look at the database may take.
	lookTime = 5 * time.Second
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := h.serve(w, r); err != nil {
		problem.Write(w, err)
	}
}

// serve returns an error for what is refused, and nil when the listener is gone.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return problem.New(http.StatusMethodNotAllowed, "wrong_method", "%s: %s must be a GET", r.Method, Path)
	}
	f, err := readFilter(r)
	if err != nil {
		return err
	}
	d := h.Directory(r.Context())
	if d == nil {
		p := problem.New(http.StatusServiceUnavailable, "relay_unsure", "this relay has not found out yet what there is to deliver")
		p.RetryAfter = 1
		return p
	}
	if header := r.Header.Get(access.RelayHeader); header != "" {
		if err := hop.Verify(d.Key, d.Me, header, "events", nil); err != nil {
			return err
		}
		f.Own = true
	} else if who := access.Of(r.Context()); !who.May(access.Viewer) {
		return who.Refusal(access.Viewer)
	}
	l := &listener{h: h, filter: f, me: d.Me, w: w, out: http.NewResponseController(w)}
	defer h.Feed.Join()()
	if !f.Own {
		defer h.attendant.join(r.Context())()
	}
	l.listen(r.Context(), r.Header.Get("Last-Event-ID"))
	return nil
}

// listener is one who listens.
type listener struct {
	h      *Handler
	filter *watch.Filter
	me     string
	w      http.ResponseWriter
	out    *http.ResponseController
	at     uint64 // the next event
	err    error  // of the last write
}

func (l *listener) listen(ctx context.Context, last string) {
	header := l.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // a proxy passes on what there is
	l.at = l.h.Feed.Position()
	if at, ok := l.resume(last); ok {
		l.at = at
	} else {
		if last != "" {
			l.write("event: gap\ndata: {}\n\n")
		}
		l.snapshot(ctx)
	}
	l.flush()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for l.err == nil && ctx.Err() == nil {
		batches, next, gap, newer := l.h.Feed.Next(l.at)
		if newer == nil {
			l.pass(ctx, batches, gap)
			l.at = next
			continue
		}
		select {
		case <-newer:
		case <-alive.C: // says where the listener is, though there was nothing for it
			l.write("id: %s:%d\n: alive\n\n", l.me, l.at)
			l.flush()
		case <-ctx.Done():
		}
	}
}

// resume reads what a listener got last.
func (l *listener) resume(last string) (at uint64, ok bool) {
	me, number, _ := strings.Cut(last, ":")
	at, err := strconv.ParseUint(number, 10, 64)
	if err != nil || me != l.me {
		return 0, false
	}
	_, _, gap, _ := l.h.Feed.Next(at)
	return at, !gap
}

// pass writes what is wanted.
func (l *listener) pass(ctx context.Context, batches []*watch.Batch, gap bool) {
	wrote := false
	for _, b := range batches {
		gap = gap || b.Missed
		for i := range b.Events {
			e, number := &b.Events[i], b.First+uint64(i)
			if number < l.at || !l.filter.Wants(&e.Change) {
				continue
			}
			kind := "change"
			if e.About != nil {
				kind = "subscription"
			}
			l.write("id: %s:%d\nevent: %s\ndata: %s\n\n", l.me, number+1, kind, e.Data)
			wrote = true
		}
	}
	if gap {
		l.write("event: gap\ndata: {}\n\n")
		l.snapshot(ctx)
	}
	if wrote || gap {
		l.flush()
	}
}

// snapshot says where everything stands that the listener asks about. For another relay there is none.
func (l *listener) snapshot(ctx context.Context) {
	if l.filter.Own {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s := snapshot{Subscriptions: json.RawMessage("null")}
	report, all, err := l.h.status.get(ctx)
	switch {
	case err != nil: // null says that it is not known; the attendant tells when it is
	case l.filter.Subscriptions == nil:
		s.Subscriptions = all
	default:
		if text, err := json.Marshal(slices.DeleteFunc(slices.Clone(report.Subscriptions), func(one admin.SubscriptionStatus) bool {
			return !slices.Contains(l.filter.Subscriptions, one.Name)
		})); err == nil {
			s.Subscriptions = text
		}
	}
	for _, id := range l.filter.IDs {
		if m, err := l.h.Message(ctx, id); err == nil { // a message that nobody knows yet may come
			for i := range m.List {
				m.List[i].Result = nil // it may hold what the message carries
			}
			s.Messages = append(s.Messages, m)
		}
	}
	text, err := json.Marshal(s)
	if err == nil {
		l.write("id: %s:%d\nevent: snapshot\ndata: %s\n\n", l.me, l.at, text)
	}
}

// snapshot is what a listener gets first.
type snapshot struct {
	Subscriptions json.RawMessage     `json:"subscriptions"`
	Messages      []*admin.Deliveries `json:"messages,omitempty"`
}

func (l *listener) write(format string, args ...any) {
	if l.err == nil {
		l.out.SetWriteDeadline(time.Now().Add(slowest)) // a connection that knows none is written to all the same
		_, l.err = fmt.Fprintf(l.w, format, args...)
	}
}

func (l *listener) flush() {
	if l.err == nil {
		l.err = l.out.Flush()
	}
}

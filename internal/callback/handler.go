package callback

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/metrics"
)

const (
	usualPatience = 5 * time.Second
	usualReading  = 10 * time.Second
	firstPause    = 5 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// Handler records what receivers say of asynchronous deliveries, of any subscription of the database.
type Handler struct {
	Patience time.Duration // with a callback that is early; it is told to come again then
	Reading  time.Duration // how long a body may take to arrive

	urls  *URLs
	store *Store
	look  func() // makes the relay of this process look at once
	log   *eventLog
	total *prometheus.CounterVec
}

// NewHandler answers what came by urls from the store. It calls look when a callback was recorded; look must not wait.
func NewHandler(urls *URLs, store *Store, look func(), log *slog.Logger, registry prometheus.Registerer) *Handler {
	total := metrics.CounterVec("callbacks_total")
	registry.MustRegister(total)
	return &Handler{urls: urls, store: store, look: look, Patience: usualPatience, Reading: usualReading,
		log: newLog(log), total: total}
}

// reply is what a callback is answered with.
type reply struct {
	status     int
	result     string // for metrics
	retryAfter int    // seconds; 0: no header
	body       any    // JSON; nil: none
	err        error  // for the log
}

func refuse(status int, result, reason string) reply {
	return reply{status: status, result: result, body: map[string]string{"error": reason}}
}

// ServeHTTP answers POST <base>/callbacks/<subscription>/<row>/<token>/<signature>/<action>.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	http.NewResponseController(w).SetReadDeadline(began.Add(h.Reading)) // also of a body that nobody reads
	cb, out := h.answer(w, r)
	action := cb.Action
	if _, known := actions[action]; !known {
		action = "unknown"
	}
	h.total.WithLabelValues(action, out.result).Inc()
	h.log.answered(r, cb, out, time.Since(began))
	if out.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(out.retryAfter))
	}
	w.Header().Set("Cache-Control", "no-store")
	if out.body == nil {
		w.WriteHeader(out.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(out.status)
	json.NewEncoder(w).Encode(out.body)
}

// answer reads the signature before the body: strangers get no further.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (Attempt, reply) {
	cb, err := h.urls.Read(r.URL.EscapedPath())
	parse, known := actions[cb.Action]
	switch {
	case errors.Is(err, ErrNoCallback) || !known:
		return cb, refuse(http.StatusNotFound, "unknown", "nothing is here: a callback is a POST to its URL with /complete, /fail or /heartbeat added")
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return cb, refuse(http.StatusMethodNotAllowed, "unknown", r.Method+" is not for callbacks: they are a POST")
	case err != nil:
		return cb, refuse(http.StatusForbidden, "forged", "the signature in the URL does not verify: use the URL as it came in postrider-callback")
	}
	fields, status, err := readBody(w, r)
	if err != nil {
		return cb, refuse(status, "invalid", err.Error())
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{}) // else the connection would end while we wait
	record, err := parse(fields)
	if err != nil {
		return cb, refuse(http.StatusBadRequest, "invalid", err.Error())
	}
	return cb, h.settle(r.Context(), cb, record)
}

// recorder does in the database what a callback asks for, if the attempt waits for one.
type recorder func(ctx context.Context, s *Store, cb Attempt) (out reply, done bool, err error)

var recorded = reply{status: http.StatusNoContent, result: "done"}

// actions read the body and say what is to be recorded.
var actions = map[string]func(given) (recorder, error){
	"complete": func(fields given) (recorder, error) {
		result, err := parseComplete(fields)
		return func(ctx context.Context, s *Store, cb Attempt) (reply, bool, error) {
			done, err := s.complete(ctx, cb, result)
			return recorded, done, err
		}, err
	},
	"fail": func(fields given) (recorder, error) {
		f, err := parseFailure(fields)
		return func(ctx context.Context, s *Store, cb Attempt) (reply, bool, error) {
			done, err := s.fail(ctx, cb, f)
			return recorded, done, err
		}, err
	},
	"heartbeat": func(fields given) (recorder, error) {
		lease, err := parseHeartbeat(fields)
		return func(ctx context.Context, s *Store, cb Attempt) (reply, bool, error) {
			until, err := s.heartbeat(ctx, cb, lease)
			out := reply{status: http.StatusOK, result: "done", body: map[string]time.Time{"until": until.UTC()}}
			return out, !until.IsZero(), err
		}, err
	},
}

// settle records a callback. One that is early waits: a receiver may call before its 202 has arrived, and before the relay
// has recorded that.
func (h *Handler) settle(ctx context.Context, cb Attempt, record recorder) reply {
	deadline := time.Now().Add(h.Patience)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		out, done, err := record(ctx, h.store, cb)
		if err != nil {
			return unavailable(err)
		}
		if done {
			if cb.Action != "heartbeat" {
				h.look()
			}
			return out
		}
		over, err := h.store.over(ctx, cb)
		left := time.Until(deadline)
		switch {
		case err != nil:
			return unavailable(err)
		case over:
			return refuse(http.StatusGone, "over", "the attempt is over: it was settled before, its lease has ended, or another attempt took its place")
		case left <= 0:
			out := refuse(http.StatusTooEarly, "early", "the delivery is not recorded yet: answer it with 202 first, and call again")
			out.retryAfter = 1
			return out
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return unavailable(ctx.Err())
		}
	}
}

func unavailable(err error) reply {
	out := refuse(http.StatusServiceUnavailable, "unavailable", "the database cannot be asked now: call again")
	out.retryAfter, out.err = 5, err
	return out
}

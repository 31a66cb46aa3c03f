package jobs

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks/pull"
)

// Handler answers workers. Make one with New.
type Handler struct {
	hub *pull.Hub
	mux *http.ServeMux
}

// New makes a handler that asks the hub.
func New(hub *pull.Hub) *Handler {
	h := &Handler{hub: hub, mux: http.NewServeMux()}
	for verb, answer := range map[string]func(http.ResponseWriter, *http.Request) error{"take": h.take, "settle": h.settle, "beat": h.beat} {
		h.mux.HandleFunc("/api/v1/jobs/"+verb, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.Header().Set("Allow", http.MethodPost)
				refuse(w, newProblem(http.StatusMethodNotAllowed, "wrong_method", "%s: %s must be a POST", r.Method, r.URL.Path))
				return
			}
			if err := answer(w, r); err != nil {
				refuse(w, err)
			}
		})
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, newProblem(http.StatusNotFound, "not_found", "nothing is at %.100q: there are /api/v1/jobs/take, settle and beat", r.URL.Path))
	})
	return h
}

// ServeHTTP answers requests to this machine's own names alone.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isLocal(r.Host) {
		refuse(w, newProblem(http.StatusMisdirectedRequest, "wrong_host", "Host %.100q: must be localhost or an address such as 127.0.0.1", r.Host))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// isLocal says whether a name can only lead to this machine.
func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func (h *Handler) take(w http.ResponseWriter, r *http.Request) error {
	var q takeRequest
	if err := read(w, r, &q); err != nil {
		return err
	}
	by, err := q.caller.caller()
	if err != nil {
		return err
	}
	wants, wait, err := q.wants()
	if err != nil {
		return err
	}
	list, err := h.await(w, r, by, wants, wait)
	if err != nil {
		return err
	}
	respond(w, append(appendJobs([]byte{'{'}, list), `,"quiet":false}`...))
	return nil
}

// await takes jobs; a connection that waits is not one that hangs.
func (h *Handler) await(w http.ResponseWriter, r *http.Request, by pull.Caller, wants []pull.Want, wait time.Duration) ([]pull.Job, error) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + time.Minute))
	list, err := h.hub.Take(r.Context(), by, wants, wait)
	if context.Cause(r.Context()) != nil {
		return nil, newProblem(http.StatusServiceUnavailable, "stopping", "the relay stops, or the caller is gone")
	}
	return list, err
}

func (h *Handler) settle(w http.ResponseWriter, r *http.Request) error {
	var q settleRequest
	if err := read(w, r, &q); err != nil {
		return err
	}
	by, err := q.caller.caller()
	if err != nil {
		return err
	}
	items, err := q.items()
	if err != nil {
		return err
	}
	var wants []pull.Want
	var wait time.Duration
	if q.Take != nil {
		if wants, wait, err = q.Take.wants(); err != nil {
			return err
		}
	}
	answers, err := h.hub.Settle(by, items)
	if err != nil {
		return err
	}
	var list []pull.Job
	if q.Take != nil {
		by.HoldsAll = false // it was looked at
		list, _ = h.await(w, r, by, wants, wait)
	}
	b := append(appendAnswers([]byte{'{'}, q.Items, answers), ',')
	respond(w, append(appendJobs(b, list), `,"quiet":false}`...))
	return nil
}

func (h *Handler) beat(w http.ResponseWriter, r *http.Request) error {
	var q beatRequest
	if err := read(w, r, &q); err != nil {
		return err
	}
	by, err := q.caller.caller()
	if err != nil {
		return err
	}
	progress, err := q.progress()
	if err != nil {
		return err
	}
	lost, err := h.hub.Beat(by, progress)
	if err != nil {
		return err
	}
	b := append(appendHeld([]byte{'{'}, "cancel", nil), ',')
	respond(w, append(appendHeld(b, "lost", lost), `,"quiet":false}`...))
	return nil
}

func (b *beatRequest) progress() ([]pull.Working, error) {
	if len(b.Progress) > mostJobs {
		return nil, invalid("progress: is of %d jobs: must be of at most %d", len(b.Progress), mostJobs)
	}
	var all []pull.Working
	for i, p := range b.Progress {
		switch {
		case p.Subscription == "" || p.Token == "":
			return nil, invalid("progress[%d]: names no job: must have subscription, id and token as the job came with them", i)
		case p.Percent < 0 || p.Percent > 100:
			return nil, invalid("progress[%d].percent %v: must be from 0 to 100", i, p.Percent)
		}
		all = append(all, pull.Working{Held: p.held.held(), Progress: pull.Progress{Percent: p.Percent, Note: cut(p.Note)}})
	}
	return all, nil
}

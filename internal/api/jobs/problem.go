package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/postrider/postrider/sinks/pull"
)

// problem is an error as callers see it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`

	retryAfter int // seconds; 0: not said
}

// Error is what was wrong.
func (p *problem) Error() string { return p.Detail }

func newProblem(status int, code, detail string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(detail, args...)}
}

// invalid is what is wrong with a request.
func invalid(detail string, args ...any) error {
	return newProblem(http.StatusBadRequest, "invalid_request", detail, args...)
}

// moving is what a call is answered about a subscription that nobody can be asked about now.
func moving(name string) *problem {
	p := newProblem(http.StatusServiceUnavailable, "moving", "subscription %q is being handed over, or nobody delivers it now", name)
	p.retryAfter = 1
	return p
}

// passes says whether the same call may be answered well later.
func passes(err error) bool {
	status := problemOf(err).Status
	return status >= 500 || status == http.StatusMisdirectedRequest
}

// problemOf makes a problem of any error.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if _, ok := errors.AsType[*pull.ReplacedError](err); ok {
		return newProblem(http.StatusConflict, "worker_replaced", "%s", err)
	}
	p := newProblem(http.StatusServiceUnavailable, "unavailable", "%s", err)
	switch {
	case errors.Is(err, pull.ErrUnsure):
		p.Code = "relay_unsure"
	case errors.Is(err, pull.ErrCrowded):
		p.Code = "too_many_workers"
	}
	p.retryAfter = 1
	return p
}

func refuse(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

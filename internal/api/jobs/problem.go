package jobs

import (
	"errors"
	"net/http"

	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/sinks/pull"
)

// invalid is what is wrong with a request.
func invalid(detail string, args ...any) error {
	return problem.New(http.StatusBadRequest, "invalid_request", detail, args...)
}

// moving is what a call is answered about a subscription that nobody can be asked about now.
func moving(name string) *problem.Details {
	p := problem.New(http.StatusServiceUnavailable, "moving", "subscription %q is being handed over, or nobody delivers it now", name)
	p.RetryAfter = 1
	return p
}

// passes says whether the same call may be answered well later.
func passes(err error) bool {
	status := problemOf(err).Status
	return status >= 500 || status == http.StatusMisdirectedRequest
}

// problemOf makes a problem of any error.
func problemOf(err error) *problem.Details {
	if p, ok := errors.AsType[*problem.Details](err); ok {
		return p
	}
	if _, ok := errors.AsType[*pull.ReplacedError](err); ok {
		return problem.New(http.StatusConflict, "worker_replaced", "%s", err)
	}
	p := problem.New(http.StatusServiceUnavailable, "unavailable", "%s", err)
	switch {
	case errors.Is(err, pull.ErrUnsure):
		p.Code = "relay_unsure"
	case errors.Is(err, pull.ErrCrowded):
		p.Code = "too_many_workers"
	}
	p.RetryAfter = 1
	return p
}

func refuse(w http.ResponseWriter, err error) { problem.Write(w, problemOf(err)) }

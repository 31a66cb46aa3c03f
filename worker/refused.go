package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// RefusedError is a request that a relay refused (RFC 9457).
type RefusedError struct {
	Status int    // of HTTP
	Code   string // for programs, such as unknown_subscription
	Title  string
	Detail string // for people: names the field, the value and what would be right
}

func (e *RefusedError) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	if e.Code != "" {
		return fmt.Sprintf("the relay answers %d (%s): %s", e.Status, e.Code, text)
	}
	return fmt.Sprintf("the relay answers %d: %s", e.Status, text)
}

// passes reports whether the same request may be answered well later.
func (e *RefusedError) passes() bool {
	switch e.Status {
	case 408, 421, 425, 429:
		return true
	}
	return e.Status >= 500
}

// replaced reports whether another worker has called by our name.
func replaced(err error) bool {
	e, ok := errors.AsType[*RefusedError](err)
	return ok && e.Code == "worker_replaced"
}

// refusedForGood reports whether a relay has refused what no time mends.
func refusedForGood(err error) bool {
	e, ok := errors.AsType[*RefusedError](err)
	return ok && !e.passes()
}

func refused(res *http.Response, data []byte) error {
	e := &RefusedError{Status: res.StatusCode, Title: http.StatusText(res.StatusCode)}
	var problem struct{ Code, Title, Detail string }
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(data, &problem) == nil {
		e.Code, e.Title, e.Detail = problem.Code, problem.Title, problem.Detail
	} else if len(data) > 0 {
		e.Detail = text(strings.TrimSpace(string(data)), 300)
	}
	return e
}

// Package problem is how errors are told over HTTP: problem details (RFC 9457) with a code, which programs go by.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Details are an error as callers see it.
type Details struct {
	Type   string `json:"type" doc:"Always about:blank: the code tells kinds apart." example:"about:blank"`
	Title  string `json:"title" doc:"What the status means."`
	Status int    `json:"status" doc:"The status of the answer."`
	Detail string `json:"detail" doc:"What is wrong, for people, and what would be right."`
	Code   string `json:"code" doc:"What is wrong, for programs." example:"invalid_request"`

	RetryAfter int `json:"-"` // seconds; 0: not said
}

// New makes one with the status's title.
func New(status int, code, detail string, args ...any) *Details {
	return &Details{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(detail, args...)}
}

// Error is what is wrong.
func (d *Details) Error() string { return d.Detail }

// GetStatus is the status of the answer.
func (d *Details) GetStatus() int { return d.Status }

// ContentType is what problem details are sent as.
func (d *Details) ContentType(string) string { return "application/problem+json" }

// GetHeaders are the answer's own headers.
func (d *Details) GetHeaders() http.Header {
	if d.RetryAfter == 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.Itoa(d.RetryAfter)}}
}

// Write answers with an error; one that is none of ours is an internal one, whose text is not told.
func Write(w http.ResponseWriter, err error) {
	d, ok := errors.AsType[*Details](err)
	if !ok {
		d = New(http.StatusInternalServerError, "internal", "something went wrong that is no fault of the request: the relay's log tells what")
	}
	if d.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(d.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(d.Status)
	json.NewEncoder(w).Encode(d) // a caller that is gone needs no answer
}

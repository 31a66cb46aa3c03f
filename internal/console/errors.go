package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

// inputError is something wrong with what was asked for.
type inputError struct{ text string }

func (e *inputError) Error() string { return e.text }

func badInput(format string, args ...any) error { return &inputError{fmt.Sprintf(format, args...)} }

// forbiddenError is for whoever may not.
type forbiddenError struct{ text string }

func (e *forbiddenError) Error() string { return e.text }

// missingError is for what cannot be there.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

var errNoPage = &missingError{"the menu has all pages that there are"}

// failure is what the page of an error shows.
type failure struct{ Title, Text, Advice string }

// asked says what is wrong with what was asked for, if it is that: a page that has a form shows it there.
func asked(err error) (text string, is bool) {
	if err == nil {
		return "", false
	}
	status, f := judge(err)
	return f.Text, status == http.StatusBadRequest
}

// judge says what an error means to who looks at it.
func judge(err error) (status int, f failure) {
	if _, ok := errors.AsType[*inputError](err); ok {
		return http.StatusBadRequest, failure{"That cannot be done", err.Error(), "Go back and change it."}
	}
	if _, ok := errors.AsType[*forbiddenError](err); ok {
		return http.StatusForbidden, failure{"You may not do that", err.Error(), ""}
	}
	if _, ok := errors.AsType[*missingError](err); ok {
		return http.StatusNotFound, failure{"Not found", err.Error(), ""}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable, failure{"The database does not answer in time", err.Error(), "This page tries again by itself."}
	}
	text := dbconn.Explain(err)
	switch code := admin.CodeOf(err); code {
	case admin.Invalid, admin.Conflict:
		return code.HTTPStatus(), failure{"That cannot be done", text, "Go back and change it."}
	case admin.NotFound:
		return code.HTTPStatus(), failure{"Not found", text, ""}
	case admin.Forbidden:
		return code.HTTPStatus(), failure{"The relay's role may not do that", text, "`postrider grants --relay ROLE` prints what the role needs."}
	case admin.Unavailable:
		return code.HTTPStatus(), failure{"The database cannot be asked now", text, "Applications can go on: what they have committed is delivered when it is back. This page tries again by itself."}
	}
	return http.StatusInternalServerError, failure{"Something went wrong", text, "The relay's log may say more."}
}

// failed is the page of an error.
func (h *Handler) failed(q *request, err error) *page {
	status, f := judge(err)
	if status == http.StatusInternalServerError {
		h.Log.Warn("a page of the console failed", "path", q.http.URL.Path, "because", err)
	}
	p := &page{Title: f.Title, Body: "error", Status: status, Data: f}
	if status == http.StatusServiceUnavailable {
		p.Every = 3 * time.Second
	}
	return p
}

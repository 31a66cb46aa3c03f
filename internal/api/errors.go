package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
)

// shape gives the errors that the library makes the form of ours.
var shape = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false // null is no list
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		if status == http.StatusUnprocessableEntity { // one status for all that is wrong with a request
			status = http.StatusBadRequest
		}
		code := map[int]string{http.StatusBadRequest: "invalid_request", http.StatusUnsupportedMediaType: "not_json", http.StatusRequestEntityTooLarge: "too_large",
			http.StatusNotAcceptable: "not_acceptable", http.StatusRequestTimeout: "timeout"}[status]
		if code == "" {
			code = "internal"
		}
		var list []string
		for _, err := range errs {
			if err != nil {
				list = append(list, described(err))
			}
		}
		if len(list) == 0 {
			list = []string{message}
		}
		return problem.New(status, code, "%s", strings.Join(list, "; "))
	}
})

// described says where in a request something is wrong, and what.
func described(err error) string {
	d, ok := err.(*huma.ErrorDetail)
	if !ok || d.Location == "" {
		return err.Error()
	}
	where := strings.TrimPrefix(d.Location, "body.")
	if text, ok := d.Value.(string); ok {
		return fmt.Sprintf("%s %.100q: %s", where, text, d.Message)
	}
	switch d.Value.(type) {
	case nil, map[string]any, []any, []byte:
		return fmt.Sprintf("%s: %s", where, d.Message)
	}
	return fmt.Sprintf("%s %v: %s", where, d.Value, d.Message)
}

func tooLong(limit time.Duration) error {
	p := problem.New(http.StatusServiceUnavailable, "timeout", "the database took longer than %s: ask for less, or again later", limit)
	p.RetryAfter = 1
	return p
}

// problemOf makes of an error what its caller sees, with a code of admin's, and tells the log of those that are nobody's fault.
func (a *API) problemOf(err error) error {
	if p, ok := err.(*problem.Details); ok {
		return p
	}
	code := admin.CodeOf(err)
	if code == admin.Internal {
		a.Log(err)
		return problem.New(http.StatusInternalServerError, "internal", "something went wrong that is no fault of the request: the relay's log tells what")
	}
	name := string(code)
	if code == admin.Invalid {
		name = "invalid_request"
	}
	text := dbconn.Explain(err)
	if raised, ok := errors.AsType[*pgconn.PgError](err); ok && code == admin.Invalid { // by the schema's own functions, for people
		text = strings.Join(slices.DeleteFunc([]string{raised.Message, raised.Hint}, func(s string) bool { return s == "" }), ". ")
	}
	p := problem.New(code.HTTPStatus(), name, "%s", text)
	if code == admin.Unavailable {
		p.RetryAfter = 1
	}
	return p
}

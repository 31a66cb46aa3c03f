package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dberr"
)

// Code says what kind of error one is, for a program that has to decide what to do about it.
type Code string

// The codes.
const (
	Invalid     Code = "invalid"     // what was asked for is wrong by itself: asking again does not help
	NotFound    Code = "not_found"   // there is no such subscription or message
	Conflict    Code = "conflict"    // it is right by itself, and not as things are
	Forbidden   Code = "forbidden"   // the role may not
	Unavailable Code = "unavailable" // the database cannot be asked now, or is busy: asking again may help
	Internal    Code = "internal"    // anything else
)

// statuses are what a code means outside: the exit status of a command, the status of an HTTP answer.
var statuses = map[Code]struct{ exit, http int }{
	Invalid:     {1, http.StatusBadRequest},
	NotFound:    {1, http.StatusNotFound},
	Conflict:    {1, http.StatusConflict},
	Forbidden:   {1, http.StatusForbidden},
	Unavailable: {1, http.StatusServiceUnavailable},
	Internal:    {1, http.StatusInternalServerError},
}

// ExitStatus is the exit status of a command that ends with such an error.
func (c Code) ExitStatus() int { return statuses[c].exit }

// HTTPStatus is the status of an HTTP answer that tells of such an error.
func (c Code) HTTPStatus() int { return statuses[c].http }

// Error is an error with its code. Its text is for people.
type Error struct {
	Code Code
	err  error
}

// Error returns the text.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns what the text was made of.
func (e *Error) Unwrap() error { return errors.Unwrap(e.err) }

func errorf(code Code, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

// sqlCodes are what the database's errors mean, by SQLSTATE or its class; the schema's functions raise the first four.
var sqlCodes = map[string]Code{
	"22": Invalid, "23": Invalid, "P0001": Invalid, "42704": NotFound,
	"42501": Forbidden, "28": Forbidden,
	"40": Unavailable, "55P03": Unavailable, "08": Unavailable, "53": Unavailable, "57": Unavailable, "25006": Unavailable,
	"55": Conflict,
}

// CodeOf returns the code of an error, also of one of the database's.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, key := range []string{pgErr.Code, pgErr.Code[:min(2, len(pgErr.Code))]} {
			if code, ok := sqlCodes[key]; ok {
				return code
			}
		}
		return Internal
	}
	if dberr.Away(err) {
		return Unavailable
	}
	return Internal
}

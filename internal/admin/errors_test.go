package admin

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err        error
		want       Code
		exit, http int
	}{
		{errorf(NotFound, "there is no subscription %q", "a"), NotFound, 1, 404},
		{fmt.Errorf("apply: %w", errorf(Conflict, "taken: %w", io.EOF)), Conflict, 1, 409},
		{&pgconn.PgError{Code: "22023"}, Invalid, 1, 400},
		{&pgconn.PgError{Code: "42501"}, Forbidden, 1, 403},
		{&pgconn.PgError{Code: "55P03"}, Unavailable, 1, 503}, // a lock that is not to be had
		{&pgconn.PgError{Code: "55000"}, Conflict, 1, 409},
		{&pgconn.PgError{Code: "57P01"}, Unavailable, 1, 503},
		{&pgconn.PgError{Code: "XX000"}, Internal, 1, 500},
		{&pgconn.PgError{}, Internal, 1, 500},
		{&pgconn.ConnectError{}, Unavailable, 1, 503},
		{fmt.Errorf("begin: %w", pgconn.ErrConnClosed), Unavailable, 1, 503}, // it broke while it was at rest
		{io.ErrUnexpectedEOF, Unavailable, 1, 503},
		{errors.New("odd"), Internal, 1, 500},
	} {
		if got := CodeOf(c.err); got != c.want || got.ExitStatus() != c.exit || got.HTTPStatus() != c.http {
			t.Errorf("%v (%T) has the code %s, %d, %d", c.err, c.err, got, got.ExitStatus(), got.HTTPStatus())
		}
	}
	if err := errorf(Conflict, "taken: %w", io.EOF); !errors.Is(err, io.EOF) || err.Error() != "taken: EOF" {
		t.Errorf("%v does not wrap its cause", err)
	}
}

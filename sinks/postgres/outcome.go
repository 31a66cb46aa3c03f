package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// fault is what an error is about.
type fault int

const (
	ofServer   fault = iota // the server, or the way to it
	ofSetup                 // what somebody has to change
	ofConflict              // others who did the same at once
	ofMessage               // a message, or what its effect is
)

// setup are the SQLSTATEs, and classes of them, of what somebody has to change.
var setup = []string{"28", "3D000", "3F000", "42", "0LP01"}

// away are those of a server that cannot work now. That of a standby is what it says to a transaction that writes.
var away = []string{"08", "53", "57P", "58", "25006", "0A000", "22008"}

// faultOf says what an error is about.
func faultOf(err error) fault {
	is := func(code string, list []string) bool {
		return slices.ContainsFunc(list, func(prefix string) bool { return strings.HasPrefix(code, prefix) })
	}
	codes := dberr.Codes(err)
	switch {
	case errors.Is(err, errTrust), untrusted(err), refused(err):
		return ofSetup
	case slices.ContainsFunc(codes, func(c string) bool { return is(c, setup) }):
		return ofSetup
	case len(codes) == 0, dberr.Connecting(err), slices.ContainsFunc(codes, func(c string) bool { return is(c, away) }):
		return ofServer
	case slices.Contains(codes, "40001"), slices.Contains(codes, "40P01"):
		return ofConflict
	}
	return ofMessage
}

// untrusted says whether a certificate was refused, here or there.
func untrusted(err error) bool {
	_, unknown := errors.AsType[*tls.CertificateVerificationError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	return unknown || host || alert || strings.Contains(err.Error(), noTLS)
}

// refused says whether the guard did not let us dial.
func refused(err error) bool { return strings.Contains(err.Error(), "refused by the guard") }

// noTLS is the text of pgconn's error when the server does without.
const noTLS = "server refused TLS connection"

// outcomeOf makes an outcome of an error.
func (s *sink) outcomeOf(err error) error {
	text := explain(err)
	if hidden, ok := errors.AsType[*secret.HiddenError](err); ok {
		text = hidden.Error()
	}
	reason := &reasonError{text, err}
	switch faultOf(err) {
	case ofSetup:
		if remedy := s.remedy(err); remedy != "" {
			reason.text += ": " + remedy
		}
		return sinks.Misconfigured(reason)
	case ofServer:
		return sinks.Unavailable(reason, 0)
	}
	return sinks.Retryable(reason, 0)
}

type reasonError struct {
	text string
	err  error
}

// Error returns the reason.
func (r *reasonError) Error() string { return r.text }

// Unwrap returns the error behind it.
func (r *reasonError) Unwrap() error { return r.err }

// explain is what a server has said, on one line, with what it adds for who can mend it.
func explain(err error) string {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time: " + dberr.Cause(err)
	case !ok || dberr.Connecting(err):
		return dberr.Cause(err)
	}
	text := fmt.Sprintf("%s (SQLSTATE %s)", strings.Join(strings.Fields(pgErr.Message), " "), pgErr.Code)
	for _, more := range []struct{ what, text string }{{"constraint", pgErr.ConstraintName}, {"detail", pgErr.Detail}, {"hint", pgErr.Hint}} {
		if more.text != "" {
			text += ", " + more.what + ": " + strings.Join(strings.Fields(more.text), " ")
		}
	}
	return text
}

// remedies say what would help, by SQLSTATE; $ is the table or function, and @ the role.
var remedies = []struct {
	codes string
	of    string // a word of the message; empty: any
	text  string
}{
	{"3F000 42P01 42883", "postrider_inbox", "`postrider inbox install --database-url … --grant @` makes the inbox there"},
	{"42501", "postrider_inbox", "`postrider inbox install --database-url … --grant @` lets the role accept messages"},
	{"42501", "", "the role needs USAGE on the schema, and INSERT on the table or EXECUTE on the function: $"},
	{"3F000 42P01 42703 42804 42883", "", "$ must be a table or a function as docs/postgres.md has it"},
}

// remedy says what would help.
func (s *sink) remedy(err error) string {
	if refused(err) {
		return "options.guard.allow can permit it"
	}
	code, text := dberr.Code(err), err.Error()
	for _, r := range remedies {
		if code != "" && strings.Contains(r.codes, code) && strings.Contains(text, r.of) {
			return strings.NewReplacer("$", s.name.String(), "@", s.user).Replace(r.text)
		}
	}
	return ""
}

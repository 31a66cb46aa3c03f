// Package dberr tells errors of the database apart and says what is behind them.
package dberr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Standby says that a server is a hot standby: what Postrider does needs the primary.
type Standby struct{}

// Error says what it is, and what would be right.
func (*Standby) Error() string {
	return "the server is a standby: deliveries need the primary (name its host too, or wait for the failover to end)"
}

// Primary says that a server that was to be a standby is none.
type Primary struct{}

// Error says what it is, and what would be right.
func (*Primary) Error() string {
	return "the server is a primary: a replica to read from must be a hot standby of the database (name its host)"
}

// Code returns the SQLSTATE of an error that a server has reported, "" of others.
func Code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// Codes returns the SQLSTATEs of all errors behind one: of several hosts each may have reported its own.
func Codes(err error) (codes []string) {
	switch x := err.(type) {
	case nil:
		return nil
	case *pgconn.PgError:
		return []string{x.Code}
	case interface{ Unwrap() []error }:
		for _, one := range x.Unwrap() {
			codes = append(codes, Codes(one)...)
		}
		return codes
	}
	return Codes(errors.Unwrap(err))
}

// Kind tells causes apart that an operator would treat differently. A server that is gone, one that starts or stops and a connection
// that broke are one.
func Kind(err error) string {
	var kinds []string
	for _, code := range Codes(err) {
		switch code {
		case "57P01", "57P02", "57P03":
		default:
			kinds = append(kinds, code)
		}
	}
	if _, standby := errors.AsType[*Standby](err); standby {
		kinds = append(kinds, "standby")
	}
	slices.Sort(kinds)
	if kinds = slices.Compact(kinds); len(kinds) > 0 {
		return strings.Join(kinds, " ")
	}
	return "away"
}

// Connecting says whether the error is about making a connection: nothing was asked of the server yet.
func Connecting(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// Away says whether the error shows that the database cannot be used at all, be it gone, starting, full or refusing us, or that a
// connection broke; false for what a server that works has said about a statement.
func Away(err error) bool {
	if Connecting(err) {
		return true
	}
	if code := Code(err); code != "" {
		return slices.Contains([]string{"57P01", "57P02", "57P03", "53300", "58000"}, code) || strings.HasPrefix(code, "08")
	}
	if _, network := errors.AsType[net.Error](err); network {
		return true
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, pgconn.ErrConnClosed, context.DeadlineExceeded} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// Cause is the error's text on one line. Of a connection that could not be made there are as many errors as ways that were tried,
// several hosts, each with TLS and without: the one that says most comes first.
func Cause(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		better := fmt.Sprintf("failed to connect to `user=%s database=%s`: %s", failed.Config.User, failed.Config.Database, attempts(failed.Unwrap()))
		text = strings.Replace(text, failed.Error(), better, 1)
	}
	text = strings.ReplaceAll(text, "ValidateConnect failed: ", "") // which is ours to say
	return strings.Join(strings.Fields(text), " ")
}

// attempts lists what became of each way, the most telling first, and leaves out a refusal of TLS if the same address said more.
func attempts(err error) string {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = slices.Clone(joined.Unwrap())
	}
	slices.SortStableFunc(all, func(a, b error) int { return rank(a) - rank(b) })
	var texts []string
	seen := make(map[string]bool)
	for _, attempt := range all {
		text := attempt.Error()
		address, _, _ := strings.Cut(text, " (")
		if rank(attempt) == rankTLSRefused && seen[address] || slices.Contains(texts, text) {
			continue
		}
		seen[address] = true
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

const (
	rankRefused = iota // the server knows us and does not want us
	rankServer
	rankStandby
	rankCertificate
	rankOther
	rankTLSRefused
)

// rank orders errors by how much they say.
func rank(err error) int {
	code := Code(err)
	for _, class := range []string{"28", "3D", "42"} { // authorization, no such database, privileges
		if strings.HasPrefix(code, class) {
			return rankRefused
		}
	}
	if code != "" {
		return rankServer
	}
	if _, standby := errors.AsType[*Standby](err); standby {
		return rankStandby
	}
	if isCertificate(err) {
		return rankCertificate
	}
	if strings.Contains(err.Error(), "refused TLS") {
		return rankTLSRefused
	}
	return rankOther
}

func isCertificate(err error) bool {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return unknown || name || invalid
}

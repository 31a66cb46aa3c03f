package sinks

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// refusals are the alerts by which the other side says that it will not have our certificate, this name or any version of ours: RFC 8446,
// section 6.2. Their type in crypto/tls is not exported, their text is.
var refusals = func() map[string]bool {
	texts := make(map[string]bool)
	for _, alert := range []tls.AlertError{40, 42, 43, 44, 45, 46, 48, 49, 70, 112, 116} {
		texts[alert.Error()] = true
	}
	return texts
}()

// IsTLSRefusal says whether a connection failed because one side does not accept the other as it is set up: an authority that is not
// trusted, another name, a certificate that has expired or is missing, no TLS on that port. That does not pass by itself.
func IsTLSRefusal(err error) bool {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error" && refusals[e.Err.Error()]
}

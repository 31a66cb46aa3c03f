package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

// maxErrorText bounds what a peer can put into a reason, in bytes.
const maxErrorText = 300

// connectError marks that no usable connection came about: the destination as a whole is to blame, not this message.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// IsConnectError reports whether no usable connection came about.
func IsConnectError(err error) bool {
	_, ok := errors.AsType[connectError](err)
	return ok
}

// advised is an error and what to do about it.
type advised struct {
	err    error
	advice string
}

func (e advised) Error() string { return Shorten(e.err.Error()) + ": " + e.advice }
func (e advised) Unwrap() error { return e.err }

// quiet leaves out of an error what net/http quotes. What a peer sends in the place of an answer may be an echo of the
// request, whose path and headers can hold secrets.
type quiet struct{ err error }

func (e quiet) Error() string {
	text, _, _ := strings.Cut(e.err.Error(), `"`)
	text = strings.TrimPrefix(text, "net/http: HTTP/1.x transport connection broken: ") // also where it is the answer that is wrong
	return Shorten(strings.TrimRight(text, " :=,"))
}
func (e quiet) Unwrap() error { return e.err }

// formError marks an answer that came, and that cannot be used for its size or form.
type formError struct{ error }

func (e formError) Unwrap() error { return e.error }

// IsFormError reports whether an answer came that cannot be used for its size or form.
func IsFormError(err error) bool {
	_, ok := errors.AsType[formError](err)
	return ok
}

// formTexts are parts of what net/http says of answers of a wrong form or size; most of these errors have no names.
var formTexts = []string{"malformed ", "headers exceeded", "header list larger", "Content-Length", "transfer encoding", "invalid header", "HTTP/0.9",
	"PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "COMPRESSION_ERROR", "FLOW_CONTROL_ERROR", "too many 1xx"}

// isForm tells an answer of a wrong form from a connection that broke.
func isForm(err error) bool {
	text, _, _ := strings.Cut(err.Error(), `"`) // behind it the peer speaks
	return slices.ContainsFunc(formTexts, func(part string) bool { return strings.Contains(text, part) })
}

// adviseTLS says what to do about a handshake that failed.
func adviseTLS(err error) error {
	if advice := adviceTLS(err); advice != "" {
		return advised{err, advice}
	}
	return err
}

func adviceTLS(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "if the destination has an authority of its own, name its certificate in tls.ca"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("correct the URL, or set tls.server_name to a name in the certificate (not %s)", e.Host)
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "the destination's certificate has to be renewed, or this machine's clock is wrong"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the destination does not speak TLS on this port, use http:// or another port"
	}
	if alert, ok := remoteAlert(err); ok {
		return adviceAlert(alert)
	}
	if errors.Is(err, io.EOF) {
		return "the destination closed the connection during the TLS handshake, perhaps it does not speak TLS on this port"
	}
	if strings.Contains(err.Error(), "unsupported protocol version") {
		return adviceVersion
	}
	return ""
}

const adviceVersion = "the destination speaks no TLS version from tls.min_version (1.2 by default) on, and has to be upgraded"

// remoteAlert returns the alert with which the other side ended TLS. With TLS 1.3 that comes after the handshake where it
// does not like our certificate.
func remoteAlert(err error) (string, bool) {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" {
		return "", false
	}
	return e.Err.Error(), true
}

// Alerts of RFC 8446, section 6.2. Their type in crypto/tls is not exported, their text is.
var (
	alertHandshake   = tls.AlertError(40).Error()
	alertBadCert     = tls.AlertError(42).Error()
	alertUnsupported = tls.AlertError(43).Error()
	alertRevoked     = tls.AlertError(44).Error()
	alertExpired     = tls.AlertError(45).Error()
	alertUnknownCert = tls.AlertError(46).Error()
	alertUnknownCA   = tls.AlertError(48).Error()
	alertDenied      = tls.AlertError(49).Error()
	alertVersion     = tls.AlertError(70).Error()
	alertName        = tls.AlertError(112).Error()
	alertCertNeeded  = tls.AlertError(116).Error()
	alertProtocol    = tls.AlertError(120).Error()
)

func adviceAlert(alert string) string {
	switch alert {
	case alertCertNeeded:
		return "the destination asks for a client certificate, set tls.cert and tls.key"
	case alertExpired:
		return "the destination says that our client certificate has expired, renew the files of tls.cert and tls.key"
	case alertBadCert, alertUnsupported, alertRevoked, alertUnknownCert, alertUnknownCA, alertDenied:
		return "the destination does not accept our client certificate, check tls.cert and the authority that the destination trusts"
	case alertHandshake:
		return "the destination found no common ground, perhaps it asks for a client certificate (tls.cert and tls.key)"
	case alertVersion:
		return adviceVersion
	case alertName:
		return "the destination does not know this host name, correct the URL or set tls.server_name"
	case alertProtocol:
		return "the destination speaks neither of the HTTP versions offered, check http2"
	}
	return "the destination ended TLS"
}

// Advise says what to do about an error on a connection that was there.
func (p *Pool) Advise(err error) error {
	if IsConnectError(err) || http1.IsTimeout(err) || errors.Is(err, context.Canceled) {
		return err
	}
	if alert, ok := remoteAlert(err); ok {
		return connectError{advised{err, adviceAlert(alert)}}
	}
	if advice := p.adviceCertificate(time.Now()); advice != "" && !isForm(err) {
		return connectError{advised{quiet{err}, advice}}
	}
	// net/http exports no names for these of HTTP/2.
	switch text := err.Error(); {
	case strings.Contains(text, "http2: client connection lost"):
		return connectError{errors.New("the connection went silent and answers no ping")}
	case strings.Contains(text, "http2: client conn could not be established"):
		return connectError{errors.New("the connection was closed right after the TLS handshake")}
	case strings.Contains(text, "ENHANCE_YOUR_CALM"):
		return connectError{advised{quiet{err}, "the destination asks for fewer requests, check rate and lanes"}}
	}
	if isForm(err) {
		return formError{quiet{err}}
	}
	return quiet{err}
}

// adviceCertificate is for a connection that broke without a reason. With TLS 1.3 the client certificate is judged after
// the handshake, and the alert that says what is wrong with it can be lost.
func (p *Pool) adviceCertificate(now time.Time) string {
	if !p.asked.Load() {
		return ""
	}
	if _, expired := p.pem.expired(now); expired {
		return "our client certificate has expired, renew the files of tls.cert and tls.key"
	}
	switch {
	case p.proved.Load():
		return ""
	case p.pem.cert == nil:
		return "the destination asks for a client certificate, set tls.cert and tls.key"
	}
	return "the destination asked for a client certificate and probably does not accept ours, check tls.cert"
}

// Shorten makes one line of a text, of so many bytes at most as a reason has of a peer.
func Shorten(text string) string {
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return Printable([]byte(text))
}

// LogWriter is for log.SetOutput. Where net/http has nobody to give an error to, it uses the standard logger, and quotes
// what a peer has sent: perhaps an echo of a request, with its secrets. LogWriter drops that and hands the rest to l.
func LogWriter(l *slog.Logger) io.Writer { return logWriter{l} }

type logWriter struct{ *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	text, _, _ := strings.Cut(string(line), `"`)
	w.Info("net/http: " + Shorten(strings.TrimSuffix(strings.TrimSpace(text), " starting with")))
	return len(line), nil
}

// Printable makes one line of text out of any bytes.
func Printable(b []byte) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '.'
		}
		return r
	}, string(b))
	return strings.Join(strings.Fields(clean), " ")
}

package transport

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

// Pool is the connections that were made in the same way.
type Pool struct {
	*http.Transport
	HTTP1   *http1.Client // is used instead for HTTP/1.1, if it is not nil
	http2   atomic.Bool   // the destination has chosen HTTP/2
	given   chan net.Conn // of HTTP/2, for net/http
	pem     pemText
	proxy   *url.URL
	refused error // what the guard has against the destination, if a proxy hides its address
	retired time.Time

	asked  atomic.Bool // the destination has asked for a client certificate
	proved atomic.Bool // an answer has come, so that it liked the certificate
}

// CloseIdleConnections closes all connections that carry no request.
func (p *Pool) CloseIdleConnections() {
	if p.HTTP1 != nil {
		p.HTTP1.CloseIdleConnections()
	}
	p.closeGiven()
	p.Transport.CloseIdleConnections()
}

// prove notes that an answer has come.
func (p *Pool) prove() {
	if !p.proved.Load() {
		p.proved.Store(true)
	}
}

// present hands out the client certificate to all who ask. By itself crypto/tls keeps it back where the destination does
// not name its authority, and nobody would learn why.
func (p *Pool) present(conf *tls.Config) {
	own := new(tls.Certificate)
	if len(conf.Certificates) > 0 {
		own = &conf.Certificates[0]
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		p.asked.Store(true)
		return own, nil
	}
}

package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

// negotiation is about which protocol a destination wants over TLS. Each connection is asked for anew, and goes to the one who speaks what was
// chosen: HTTP/1.1 to the http1.Client, HTTP/2 to net/http.
//
//	http1.Client ─ dial ─▶ http/1.1: it is used
//	                    └▶ h2: given ─▶ net/http, which has all requests from then on
//	net/http ───── dial ─▶ what was given, else a new connection ─▶ h2: it is used
//	                                                              └▶ http/1.1: likewise, and the http1.Client has all requests from then on
const (
	protocolHTTP1 = "http/1.1"
	protocolHTTP2 = "h2"
)

// errHTTP2 says that the destination has chosen HTTP/2.
var errHTTP2 = errors.New("the destination has chosen HTTP/2")

// Direct says whether a request goes out by Exchange.
func (p *Pool) Direct() bool { return p.HTTP1 != nil && !p.http2.Load() }

// Exchange sends a request over HTTP/1.1 without net/http. If the destination wants HTTP/2 instead, nothing was sent, and ok is false.
func (p *Pool) Exchange(ctx context.Context, r http1.Request, deadline time.Time) (res *http.Response, ok bool, err error) {
	res, err = p.HTTP1.RoundTrip(ctx, r, deadline)
	switch {
	case err == errHTTP2:
		return nil, false, nil
	case err != nil:
		return nil, true, p.Advise(err)
	}
	p.prove()
	return res, true, nil
}

// forHTTP1 makes connections for the http1.Client.
func (p *Pool) forHTTP1(dial http1.DialFunc) http1.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil || negotiated(conn) != protocolHTTP2 {
			return conn, err
		}
		p.http2.Store(true)
		select {
		case p.given <- conn:
		default:
			conn.Close()
		}
		return nil, errHTTP2
	}
}

// forNet makes connections for net/http.
func (p *Pool) forNet(dial http1.DialFunc) http1.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var conn net.Conn
		select {
		case conn = <-p.given:
		default:
			var err error
			if conn, err = dial(ctx, network, addr); err != nil {
				return nil, err
			}
		}
		p.http2.Store(negotiated(conn) == protocolHTTP2)
		return conn, nil
	}
}

func negotiated(conn net.Conn) string {
	if c, ok := conn.(*tls.Conn); ok {
		return c.ConnectionState().NegotiatedProtocol
	}
	return ""
}

// closeGiven closes what net/http has not taken: it had another connection.
func (p *Pool) closeGiven() {
	for {
		select {
		case conn := <-p.given:
			conn.Close()
		default:
			return
		}
	}
}

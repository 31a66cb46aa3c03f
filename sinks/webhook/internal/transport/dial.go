package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"

	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

// dialer makes connections, through the proxy if there is one. Every address that it connects to was shown to the guard.
type dialer struct {
	life  context.Context // its end closes connections that carry TLS
	plain http1.DialFunc
	tls   *tls.Config
	proxy *url.URL
}

// offer sets the protocols between which the destination may choose, best first.
func (d dialer) offer(protocols ...string) { d.tls.NextProtos = protocols }

// secure returns a *tls.Conn, as net/http needs it to see which protocol was chosen.
func (d dialer) secure(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.proxy == nil {
		conn, err := d.plain(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return d.handshake(ctx, conn, d.tls, addr)
	}
	dial := d.plain
	if d.proxy.Scheme == "https" {
		dial = d.toProxy
	}
	conn, err := dial(ctx, network, http1.HostPort(d.proxy))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", proxyName(d.proxy), err)
	}
	if err := tunnel(ctx, conn, d.proxy, addr); err != nil {
		conn.Close()
		return nil, err
	}
	return d.handshake(ctx, conn, d.tls, addr)
}

// toProxy makes a connection to a proxy that speaks TLS itself. It trusts the same authorities as for the destination,
// and gets to see neither a client certificate nor a way around verification.
func (d dialer) toProxy(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.plain(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: d.tls.MinVersion, RootCAs: d.tls.RootCAs, NextProtos: []string{"http/1.1"}}
	return d.handshake(ctx, conn, conf, addr)
}

// boundConn is a connection that the end of the sink closes. (http.Transport leaves one of HTTP/2 open as long as a stream that has ended is
// not cleaned up.)
type boundConn struct {
	net.Conn
	stop func() bool
}

// SyscallConn is the socket's.
func (c boundConn) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := c.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c boundConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// handshake takes the connection over: on an error it is closed.
func (d dialer) handshake(ctx context.Context, conn net.Conn, conf *tls.Config, addr string) (net.Conn, error) {
	raw := conn
	conn = http1.NewRecords(boundConn{raw, context.AfterFunc(d.life, func() { raw.Close() })})
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			conn.Close()
			return nil, err
		}
		conf = conf.Clone()
		conf.ServerName = host
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, adviseTLS(err)
	}
	return secure, nil
}

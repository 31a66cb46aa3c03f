// Package wire makes connections for protocols whose client libraries take one that is there already: under the guard, with TLS if that is wanted. They
// can be reset, and know how they ended.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// connectTimeout bounds connecting, TLS included.
const connectTimeout = 5 * time.Second

// Dialer makes connections.
type Dialer struct {
	Guard   *guard.Guard
	Secure  bool
	TLS     tlsfiles.Options
	Secrets *secret.Store
	// Meter is told of connections; nil: whoever dials tells it.
	Meter *sinks.Meter
}

var (
	errTrust       = errors.New("TLS cannot be set up")
	errCertificate = errors.New("the server does not accept our certificate")
)

// Dial connects to an address, host:port.
func (d *Dialer) Dial(ctx context.Context, address string) (*Conn, error) {
	c, err := d.dial(ctx, address)
	d.Meter.Connected(err)
	return c, err
}

func (d *Dialer) dial(ctx context.Context, address string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	to := net.Dialer{KeepAlive: 15 * time.Second, ControlContext: d.Guard.Control}
	conn, err := to.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn, under: conn}
	if !d.Secure {
		return c, nil
	}
	if err := d.secure(ctx, c, address); err != nil {
		c.Reset()
		return nil, err
	}
	return c, nil
}

func (d *Dialer) secure(ctx context.Context, c *Conn, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	config, err := d.TLS.Config(host, d.Secrets)
	if err != nil {
		return fmt.Errorf("%w: %w", errTrust, err)
	}
	secured := tls.Client(c.under, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.Conn = secured
	return nil
}

// Fault says what somebody has to change for a connection to come about, nil if it is nothing of that kind.
func Fault(err error) error {
	hidden, ok := errors.AsType[*secret.HiddenError](err)
	switch {
	case ok:
		return hidden
	case strings.Contains(err.Error(), "refused by the guard"):
		return fmt.Errorf("%w: options.guard.allow can permit it", err)
	case errors.Is(err, errTrust), errors.Is(err, errCertificate), sinks.IsTLSRefusal(err):
		return err
	}
	return nil
}

// Conn is a connection.
type Conn struct {
	net.Conn
	under net.Conn    // without TLS
	ended atomic.Bool // by the other side
	alert atomic.Bool // it ended by one of TLS
}

// Read reads, and takes note of an end.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		c.ended.Store(true)
	}
	// In TLS 1.3 a server looks at our certificate after the handshake has ended for us.
	if err != nil && strings.Contains(err.Error(), "remote error: tls") {
		c.alert.Store(true)
	}
	return n, err
}

// Reset ends the connection at once, in such a way that the server's kernel drops what has not been read.
func (c *Conn) Reset() {
	if tcp, ok := c.under.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may be closed already
	}
	_ = c.under.Close()
}

// Ended says whether the other side has ended it.
func (c *Conn) Ended() bool { return c.ended.Load() }

// Explain adds that the server does not accept our certificate, where that is why it failed.
func (c *Conn) Explain(err error) error {
	if c.alert.Load() {
		return fmt.Errorf("%w: %w", errCertificate, err)
	}
	return err
}

package kafkasink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/secret"
)

// connectTimeout bounds connecting, TLS included.
const connectTimeout = 5 * time.Second

// maxFile bounds a file of certificates, in bytes.
const maxFile = 1 << 20

// dialer connects to brokers: to those of the URL, and to those that they name, under the same guard.
type dialer struct {
	control func(ctx context.Context, network, address string, conn syscall.RawConn) error
	secrets *secret.Store
	secure  bool
	tls     TLSOptions
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	to := net.Dialer{ControlContext: d.control}
	conn, err := to.DialContext(ctx, network, address)
	if err != nil || !d.secure {
		return conn, err
	}
	config, err := d.config(address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secured, nil
}

// config reads the files as they are now.
func (d *dialer) config(address string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.tls.ServerName}
	if d.tls.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c.ServerName = host
	}
	if d.tls.CA != "" {
		text, err := d.secrets.File(d.tls.CA, maxFile)
		if err != nil {
			return nil, d.secrets.Hide("tls.ca", d.tls.CA, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate in PEM form", d.tls.CA)
		}
	}
	if d.tls.Cert == "" {
		return c, nil
	}
	cert, err := d.secrets.File(d.tls.Cert, maxFile)
	if err != nil {
		return nil, d.secrets.Hide("tls.cert", d.tls.Cert, err)
	}
	key, err := d.secrets.File(d.tls.Key, maxFile)
	if err != nil {
		return nil, d.secrets.Hide("tls.key", d.tls.Key, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, d.secrets.Hide("tls.cert", d.tls.Cert, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// trouble remembers why the last connect failed, until one works: a message without an answer says nothing of that.
type trouble struct{ last atomic.Pointer[error] }

var _ kgo.HookBrokerConnect = (*trouble)(nil)

// OnBrokerConnect takes note of how a connect went, with TLS and SASL.
func (t *trouble) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	t.note(err)
}

// note takes nil for a sign of life.
func (t *trouble) note(err error) {
	switch {
	case err != nil:
		t.last.Store(&err)
	case t.last.Load() != nil:
		t.last.Store(nil)
	}
}

func (t *trouble) get() error {
	if err := t.last.Load(); err != nil {
		return *err
	}
	return nil
}

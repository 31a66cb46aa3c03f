package kafkasink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// connectTimeout bounds connecting, TLS included.
const connectTimeout = 5 * time.Second

// dialer connects to brokers: to those of the URL, and to those that they name, under the same guard.
type dialer struct {
	control func(ctx context.Context, network, address string, conn syscall.RawConn) error
	secrets *secret.Store
	secure  bool
	tls     tlsfiles.Options
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
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return d.tls.Config(host, d.secrets)
}

// trouble remembers why the last connect failed, until one works: a message without an answer says nothing of that.
type trouble struct {
	last  atomic.Pointer[error]
	meter *sinks.Meter // nil: nobody counts
}

var _ kgo.HookBrokerConnect = (*trouble)(nil)

// OnBrokerConnect takes note of how a connect went, with TLS and SASL.
func (t *trouble) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	t.meter.Connected(err)
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

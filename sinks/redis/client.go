package redissink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// connectTimeout bounds connecting, TLS included.
const connectTimeout = 5 * time.Second

// dialer makes clients.
type dialer struct {
	*settings
	addresses *guard.Guard
	secrets   *secret.Store
	user      *secret.Watched[string] // nil for none
	password  *secret.Watched[string] // nil for none
	meter     *sinks.Meter            // nil: nobody counts
}

func newDialer(c *settings, log *slog.Logger, secrets *secret.Store) (*dialer, error) {
	d := &dialer{settings: c, secrets: secrets.Own()}
	var err error
	if d.addresses, err = guard.New(c.Guard); err != nil {
		return nil, err
	}
	plain := func(t secret.Text) (string, error) { return t.Reveal(), nil }
	if secret.IsReference(c.User) {
		if d.user, err = secret.Watch(log, d.secrets, "user", c.User, plain); err != nil {
			return nil, err
		}
	}
	if c.Password != "" {
		if d.password, err = secret.Watch(log, d.secrets, "password", c.Password, plain); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// connect makes a client: with several servers one that knows clusters. It retries nothing by itself: what got no answer is the relay's to repeat.
func (d *dialer) connect() (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{
		InitAddress: d.servers, ForceSingleClient: len(d.servers) == 1, SelectDB: d.database, ClientName: "postrider", ClientSetInfo: rueidis.DisableClientSetInfo,
		DisableRetry: true, DisableCache: true, PipelineMultiplex: -1, ConnWriteTimeout: d.timeout,
		Dialer:    net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second, ControlContext: d.addresses.Control},
		DialCtxFn: d.dial, AuthCredentialsFn: d.credentials,
	})
}

func (d *dialer) credentials(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
	c := rueidis.AuthCredentials{Username: d.User}
	if d.user != nil {
		c.Username = d.user.Get(time.Now())
	}
	if d.password != nil {
		c.Password = d.password.Get(time.Now())
	}
	return c, nil
}

// errTrust marks what is wrong with certificates of ours.
var errTrust = errors.New("TLS cannot be set up")

func (d *dialer) dial(ctx context.Context, address string, to *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := d.connectTo(ctx, address, to)
	d.meter.Connected(err)
	return conn, err
}

func (d *dialer) connectTo(ctx context.Context, address string, to *net.Dialer) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := to.DialContext(ctx, "tcp", address)
	if err != nil || !d.secure {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	config, err := d.TLS.Config(host, d.secrets)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", errTrust, err)
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secured, nil
}

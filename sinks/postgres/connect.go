package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

const (
	connectTimeout = 10 * time.Second
	keepIdle       = time.Minute
)

// dialer makes connections to a target.
type dialer struct {
	*config
	addresses *guard.Guard
	secrets   *secret.Store
	password  *secret.Watched[string] // nil for none
	meter     *sinks.Meter            // nil: nobody counts
}

func newDialer(c *config, log *slog.Logger, secrets *secret.Store) (*dialer, error) {
	d := &dialer{config: c, secrets: secrets.Own()}
	var err error
	if d.addresses, err = guard.New(c.Guard); err != nil {
		return nil, err
	}
	if c.Password != "" {
		d.password, err = secret.Watch(log, d.secrets, "password", c.Password, func(t secret.Text) (string, error) { return t.Reveal(), nil })
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// settings are those of connections. What the environment of this process, or its files, say for other connections counts for none of these.
func (d *dialer) settings() (*pgxpool.Config, error) {
	pool, err := pgxpool.ParseConfig("host=localhost port=5432 user=x password=x database=x sslmode=disable target_session_attrs=any connect_timeout=10")
	if err != nil {
		return nil, fmt.Errorf("settings of connections: %w", err)
	}
	c := pool.ConnConfig
	c.User, c.Database, c.Password, c.ConnectTimeout = d.user, d.database, "", connectTimeout
	c.RuntimeParams = map[string]string{"application_name": "postrider", "client_encoding": "UTF8"}
	c.DialFunc = (&net.Dialer{KeepAlive: 30 * time.Second, ControlContext: d.addresses.Control}).DialContext
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing that a pooler would have to remember
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	c.Fallbacks = nil
	for i, host := range d.hosts {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			return nil, fmt.Errorf("settings of connections: %w", err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("settings of connections: port %q: %w", port, err)
		}
		if i == 0 {
			c.Host, c.Port = name, uint16(number)
			continue
		}
		c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: name, Port: uint16(number)})
	}
	if len(d.hosts) > 1 {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	pool.BeforeConnect = d.beforeConnect
	pool.AfterConnect = func(context.Context, *pgx.Conn) error {
		d.meter.Connected(nil)
		return nil
	}
	pool.MinConns, pool.MaxConnIdleTime = 0, keepIdle
	return pool, nil
}

// beforeConnect reads what may have changed: the password, certificates.
func (d *dialer) beforeConnect(_ context.Context, c *pgx.ConnConfig) error {
	if d.password != nil {
		c.Password = d.password.Get(time.Now())
	}
	var err error
	if c.TLSConfig, err = d.tls(c.Host); err != nil {
		return err
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig, err = d.tls(f.Host); err != nil {
			return err
		}
	}
	return nil
}

// errTrust marks what is wrong with certificates of ours.
var errTrust = errors.New("TLS cannot be set up")

// tls returns nil for connections without.
func (d *dialer) tls(host string) (*tls.Config, error) {
	if d.TLS.Mode == "disable" || d.TLS == (TLSOptions{}) && isLoopback(host) {
		return nil, nil
	}
	c, err := d.TLS.Config(host, d.secrets)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTrust, err)
	}
	switch d.TLS.Mode {
	case "require":
		c.InsecureSkipVerify = true
	case "verify-ca":
		c.InsecureSkipVerify = true // of the name alone: see VerifyConnection
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	}
	return c, nil
}

// verifyChain verifies a server's certificate, whatever name it is for.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range s.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(options)
	return err
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

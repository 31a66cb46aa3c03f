package natssink

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Defaults of Config.
const (
	DefaultAckTimeout = 5 * time.Second
	DefaultMaxPending = 4096
	DefaultLanes      = 4
	DefaultBatch      = 512
)

// Config says where and how to publish. Servers is required; the zero value of the rest means the default.
type Config struct {
	// Servers are addresses such as "nats://user:password@host:4222", "nats://token@host" or "tls://host", of one cluster.
	Servers []string
	// Stream is the stream that has to take the messages. Empty: whichever captures the subject.
	Stream string
	// Prefix goes in front of each topic as it is, so it usually ends in a dot.
	Prefix string
	// Core publishes to core NATS, where nobody confirms anything.
	Core bool
	// Auth says who we are, unless the addresses do.
	Auth Auth
	// CredsFile is a file of user credentials (JWT and seed), as an address names it. It becomes Auth.Creds.
	CredsFile string
	// Name is what the servers show of the connection. Default "postrider".
	Name string
	// CAFile is a PEM file of certificate authorities, CertFile and KeyFile are the client's own certificate.
	CAFile, CertFile, KeyFile string
	// ServerName is expected in the servers' certificates, empty for the host of each address. TLS13 refuses TLS 1.2.
	ServerName string
	TLS13      bool
	// Secrets reads those files, and what Auth refers to. Nil means that they may be any that this process can read.
	Secrets *secret.Store
	// Control is a net.Dialer's ControlContext: it says which addresses may be connected to. Nil means any.
	Control func(ctx context.Context, network, address string, conn syscall.RawConn) error
	// AckTimeout bounds the wait for the acknowledgements of a batch once it is out. Default 5 seconds.
	AckTimeout time.Duration
	// MaxPending bounds the messages without an acknowledgement, over all lanes. Default 4096.
	MaxPending int
	// Lanes is the number of batches at once (default 4), Batch the size of one (default 512).
	Lanes, Batch int
	// Log is told what an operator should know and no outcome says. Nil means nobody.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Secrets = c.Secrets.Own()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.CredsFile != "" {
		c.Auth.Creds, c.CredsFile = "file:"+c.CredsFile, ""
	}
	c.Name = cmp.Or(c.Name, "postrider")
	c.AckTimeout = cmp.Or(c.AckTimeout, DefaultAckTimeout)
	c.MaxPending = cmp.Or(c.MaxPending, DefaultMaxPending)
	c.Lanes = cmp.Or(c.Lanes, DefaultLanes)
	c.Batch = cmp.Or(c.Batch, DefaultBatch)
	return c
}

// validate names the setting that is wrong. It never shows a server's user info.
func (c Config) validate() error {
	if len(c.Servers) == 0 {
		return errors.New("NATS servers: none given, it takes at least one such as nats://host:4222")
	}
	for _, s := range c.Servers {
		if _, err := parseServer(s); err != nil {
			return err
		}
	}
	switch {
	case c.Core && c.Stream != "":
		return fmt.Errorf("NATS stream %q and core: core NATS has no streams, use one of the two", c.Stream)
	case strings.ContainsAny(c.Stream, " \t\r\n.*>/\\"):
		return fmt.Errorf("NATS stream %q: a stream's name holds no blanks and none of . * > / \\", c.Stream)
	case c.AckTimeout < 0:
		return fmt.Errorf("NATS ack timeout is %v: it must be above zero", c.AckTimeout)
	case c.MaxPending < 0 || c.Lanes < 0 || c.Batch < 0:
		return fmt.Errorf("NATS max pending is %d, lanes %d, batch %d: each must be at least 1", c.MaxPending, c.Lanes, c.Batch)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("NATS cert and key: a client certificate takes both files")
	}
	if err := c.Auth.validate(c.userInfo()); err != nil {
		return fmt.Errorf("NATS %w", err)
	}
	if err := checkSubject(c.Prefix + "t"); err != nil {
		return fmt.Errorf("NATS prefix %q cannot start a subject: %w", c.Prefix, err)
	}
	return nil
}

// maxFile bounds a file of certificates, in bytes.
const maxFile = 1 << 20

// CheckFiles reads now what is read again at each connect. Errors name the setting.
func (c Config) CheckFiles() error {
	c = c.withDefaults()
	if _, err := c.Auth.read(c.Log, c.Secrets); err != nil {
		return fmt.Errorf("NATS %w", err)
	}
	for _, f := range []struct{ name, path string }{{"ca", c.CAFile}, {"cert", c.CertFile}, {"key", c.KeyFile}} {
		if f.path == "" {
			continue
		}
		if _, err := c.Secrets.File(f.path, maxFile); err != nil {
			return c.Secrets.Hide("NATS "+f.name, f.path, err)
		}
	}
	if _, err := c.authorities(); c.CAFile != "" && err != nil {
		return c.Secrets.Hide("NATS ca", c.CAFile, err)
	}
	if _, err := c.certificate(); c.CertFile != "" && err != nil {
		return c.Secrets.Hide("NATS cert", c.CertFile, err)
	}
	return nil
}

func (c Config) authorities() (*x509.CertPool, error) {
	text, err := c.Secrets.File(c.CAFile, maxFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
	}
	return pool, nil
}

func (c Config) certificate() (tls.Certificate, error) {
	cert, err := c.Secrets.File(c.CertFile, maxFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := c.Secrets.File(c.KeyFile, maxFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

func parseServer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil && strings.Contains(raw, "@"):
		return nil, errors.New("NATS server cannot be parsed: in user and password, characters such as / ? # % have to be percent-encoded")
	case err != nil:
		return nil, fmt.Errorf("NATS server %q cannot be parsed: %w", raw, parseReason(err))
	case u.Scheme != "nats" && u.Scheme != "tls":
		return nil, fmt.Errorf("NATS server has the scheme %q: it must be nats or tls", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("NATS server names no host: it looks like nats://host:4222")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("NATS server %s has something behind the port: it looks like nats://host:4222", u.Host)
	}
	if err := sinks.CheckHost(u); err != nil {
		return nil, fmt.Errorf("NATS server %w", err)
	}
	return u, nil
}

// parseReason is a parser's error without the address, which it repeats.
func parseReason(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

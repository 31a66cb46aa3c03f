package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

// Defaults of Config.
const (
	DefaultTimeout = 15 * time.Second
	DefaultLanes   = 16
	// DefaultBatch is the number of events in one request, in the formats batch and ndjson.
	DefaultBatch = 100
)

// Config says where and how to deliver. URL is required; the zero value of the rest means the default.
type Config struct {
	// URL is an http or https address. User info in it becomes basic authentication.
	URL string
	// Timeout bounds one attempt as a whole, from dialling to the end of the response. Default 15 seconds.
	Timeout time.Duration
	// Lanes is the number of connections, and of requests at once. Default 16.
	Lanes int
	// Version goes into the user agent. Default "dev".
	Version string
	// TLS is used for https. Nil means the system's certificate authorities. Options.TLS is applied over it.
	TLS *tls.Config
	// Options are the subscription's own settings.
	Options Options
	// Resolver resolves the names of destinations and proxies. Nil means the system's.
	Resolver *net.Resolver
	// Receipt is called with the start of each accepting answer, if Options.Receipts asks for it: by several goroutines at
	// once, before the outcome is known to the relay, which may be killed before it is saved. Nil means that none is kept.
	Receipt func(Receipt)
	// CallbackURL returns the signed URL that the header postrider-callback carries where Options.Async is set, such as
	// Callbacks.URL. Nil means that there is no such header: receivers settle messages in the database.
	CallbackURL func(subscription string, id, token int64) string
	// Secrets reads what the options refer to. Nil means that they may refer to whatever this process can read: for programs that
	// make the options by themselves.
	Secrets *secret.Store
	// Meter is told of connections. Nil means that nobody counts.
	Meter *sinks.Meter
	// Log is told what an operator should know and no outcome says, such as certificates and secrets that were replaced, or
	// that cannot be read any more. Nil means nobody.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Lanes == 0 {
		c.Lanes = DefaultLanes
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Secrets = c.Secrets.Own()
	c.Options = c.Options.withDefaults()
	return c
}

// Validate finds what is wrong as far as that can be said without following references or opening files, so that it works
// on another machine as well.
func (c Config) Validate() error {
	_, err := c.withDefaults().parse()
	return err
}

// parse checks the settings. Its errors never show the user info, path or query of the URL.
func (c Config) parse() (*url.URL, error) {
	if c.Timeout < 0 {
		return nil, fmt.Errorf("webhook timeout is %v: it must be above zero", c.Timeout)
	}
	if c.Lanes < 0 {
		return nil, fmt.Errorf("webhook lanes is %d: it must be at least 1", c.Lanes)
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("webhook URL cannot be parsed: %w", sinks.WithoutURL(c.URL, err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("webhook URL has the scheme %q: it must be http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("webhook URL names no host: it looks like https://host/path")
	case u.User != nil && c.Options.authorizes():
		return nil, errors.New("webhook URL has user info, and basic, bearer or an Authorization header is given: a request has room for one of them")
	}
	if err := sinks.CheckHost(u); err != nil {
		return nil, fmt.Errorf("webhook URL %w", err)
	}
	u.RawQuery = sinks.EncodeQuery(u.RawQuery)
	return u, c.Options.Validate()
}

// transport is how to connect to u.
func (c Config) transport(u *url.URL, userAgent string) transport.Config {
	o := c.Options
	return transport.Config{Target: u, UserAgent: userAgent, Lanes: c.Lanes, Timeout: c.Timeout, TLS: o.TLS, Base: c.TLS, Guard: o.Guard, Proxy: o.Proxy,
		HTTP2: o.HTTP2, Resolver: c.Resolver, Secrets: c.Secrets, Log: c.Log, Meter: c.Meter}
}

// LogWriter is for log.SetOutput. Where net/http has nobody to give an error to, it uses the standard logger, and quotes
// what a peer has sent: perhaps an echo of a request, with its secrets. LogWriter drops that and hands the rest to l.
func LogWriter(l *slog.Logger) io.Writer { return transport.LogWriter(l) }

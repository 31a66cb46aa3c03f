package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultTimeout = 15 * time.Second
	DefaultLanes   = 16
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
	// TLS is used for https. Nil means the system's certificate authorities.
	TLS *tls.Config
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
	return c
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
		return nil, fmt.Errorf("webhook URL cannot be parsed: %w", withoutURL(c.URL, err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("webhook URL has the scheme %q: it must be http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("webhook URL names no host: it looks like https://host/path")
	}
	return u, nil
}

// withoutURL takes the URL out of a parser's error. The rest can quote a password that was not escaped.
func withoutURL(raw string, err error) error {
	if strings.Contains(raw, "@") {
		return errors.New("it has user info in front of the host, in which characters such as / ? # % have to be percent-encoded")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

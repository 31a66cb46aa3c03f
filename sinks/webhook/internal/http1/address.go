package http1

import (
	"context"
	"errors"
	"net"
	"net/url"
)

// IsTimeout says whether time was up: a deadline of the connection or of the context.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// HostPort is what a URL of http or https says to connect to.
func HostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

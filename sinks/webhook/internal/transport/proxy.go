package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

const proxyEnvironment = "environment"

// proxySource says where a proxy's URL comes from: Config.Proxy.
type proxySource struct {
	literal string
	ref     secret.Reference
}

// CheckProxy finds what is wrong with the option proxy without following a reference. Its errors never show user info.
func CheckProxy(option string, publicOnly bool) error {
	switch {
	case option == "":
		return nil
	case publicOnly:
		return errors.New("guard.public_only and proxy are both set: a proxy resolves names by itself, so that their addresses cannot be judged here")
	case option == proxyEnvironment:
		return nil
	case secret.IsReference(option):
		_, err := secret.ParseReference("proxy", option)
		return err
	case strings.Contains(option, "@"):
		return errors.New("proxy holds user info: put the whole URL where a reference leads to, such as env:NAME or file:/path")
	}
	_, err := proxySource{literal: option}.read(nil)
	return err
}

// newProxySource takes an option that CheckProxy has passed.
func newProxySource(option string, target *url.URL) (s proxySource, err error) {
	switch {
	case option == proxyEnvironment:
		u, err := http.ProxyFromEnvironment(&http.Request{URL: target})
		if err != nil {
			return s, errors.New("proxy: what the environment holds for proxies is no URL")
		}
		if u != nil {
			s.literal = u.String()
		}
	case secret.IsReference(option):
		s.ref, err = secret.ParseReference("proxy", option)
	default:
		s.literal = option
	}
	return s, err
}

// read returns the proxy's URL, nil for none. What is wrong with one behind a reference is not said to everybody.
func (s proxySource) read(from *secret.Store) (*url.URL, error) {
	u, err := parseProxy(s.literal)
	if s.ref != (secret.Reference{}) {
		var text secret.Text
		if text, err = s.ref.Read(from); err == nil {
			u, err = parseProxy(text.Reveal())
		}
		if err != nil {
			err = from.Hide("proxy", s.ref.String(), err)
		}
	}
	if err != nil || u == nil {
		return nil, err
	}
	if password, ok := u.User.Password(); ok && from != nil {
		from.Learn(password, u.User.Username()+":"+password)
	}
	return u, nil
}

func parseProxy(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("proxy cannot be parsed: %w", sinks.WithoutURL(text, err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("proxy must be environment, an http or https URL, or a reference to one")
	case u.Hostname() == "":
		return nil, errors.New("proxy names no host: it looks like http://proxy:3128")
	}
	if err := sinks.CheckHost(u); err != nil {
		return nil, fmt.Errorf("proxy %w", err)
	}
	return u, nil
}

// proxyName is a proxy without its user info.
func proxyName(u *url.URL) string { return "proxy " + u.Scheme + "://" + u.Host }

// tunnel asks a proxy to connect us to addr (RFC 9110, section 9.3.6). It bounds its waiting by ctx.
func tunnel(ctx context.Context, conn net.Conn, proxy *url.URL, addr string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := connectRequest(conn, proxy, addr)
	if !stop() {
		return fmt.Errorf("%s did not answer CONNECT in time: %w", proxyName(proxy), context.Cause(ctx))
	}
	return err
}

func connectRequest(conn net.Conn, proxy *url.URL, addr string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		plain := proxy.User.Username() + ":" + password
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(plain)))
	}
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("%s: CONNECT: %w", proxyName(proxy), err)
	}
	r := bufio.NewReader(io.LimitReader(conn, http1.MaxHeader))
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return fmt.Errorf("%s: CONNECT: %w", proxyName(proxy), quiet{err})
	}
	// The body of an answer to CONNECT is the tunnel; it is not closed, and of another status not read.
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired:
		return fmt.Errorf("%s answered 407 to CONNECT: it needs the right user and password in its URL", proxyName(proxy))
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %d %s to CONNECT", proxyName(proxy), res.StatusCode, http.StatusText(res.StatusCode))
	case r.Buffered() > 0:
		return fmt.Errorf("%s sent bytes of its own into the tunnel", proxyName(proxy))
	}
	return nil
}

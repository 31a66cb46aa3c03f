package http1

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Client keeps the connections to a destination that speaks HTTP/1.1, plain or over TLS, and is reached without a proxy. Each
// request is written, and its answer read, by the goroutine that has it. With http.Transport that takes two more goroutines, and
// more than twice the CPU; it stays in charge where there is HTTP/2 or a proxy.
type Client struct {
	Addr  string // host and port that it connects to
	Start []byte // of every request: its first line, Host and User-Agent. Not to be changed

	dial  DialFunc
	slots chan struct{} // one for each connection that is in use

	mu      sync.Mutex
	idle    []*conn     // the one used last at the end
	closed  bool        // since the last request began: what becomes idle is closed
	retired bool        // for good
	sweep   *time.Timer // closes what has been idle for too long; nil before anything was
	armed   bool        // sweep is going to
}

// DialFunc connects, as net.Dialer.DialContext does.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Request is what one POST carries.
type Request struct {
	Head *[]byte // Client.Start, the headers and the blank line. It may grow, and is as it was in the end
	Body []byte
}

// New returns nil where the URL takes more than this, such as a host that is not ASCII. For https dial makes connections with TLS over
// Records.
func New(target *url.URL, userAgent string, lanes int, dial DialFunc) *Client {
	if !canPeek || strings.ContainsFunc(target.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil
	}
	req := &http.Request{Method: http.MethodPost, URL: target, Host: target.Host, Header: http.Header{"User-Agent": {userAgent}}}
	var text bytes.Buffer
	if err := req.Write(&text); err != nil {
		return nil
	}
	start, ok := bytes.CutSuffix(text.Bytes(), []byte("Content-Length: 0\r\n\r\n"))
	if !ok {
		return nil
	}
	return &Client{dial: dial, Addr: HostPort(target), Start: start, slots: make(chan struct{}, lanes)}
}

// RoundTrip sends the request and reads the answer's headers. Its body, which must be closed, can be read until the
// deadline; then, or when ctx ends, everything fails. The request is sent again, over a new connection, only if a connection
// that was kept broke before a byte of an answer came: it may have been closed long ago.
func (p *Client) RoundTrip(ctx context.Context, r Request, deadline time.Time) (*http.Response, error) {
	if err := p.enter(ctx, deadline); err != nil {
		return nil, err
	}
	if c := p.take(ctx); c != nil {
		res, err := c.exchange(ctx, r, deadline)
		if err == nil || c.answered || IsTimeout(err) || ctx.Err() != nil {
			return res, err
		}
		if err := p.enter(ctx, deadline); err != nil {
			return nil, err
		}
	}
	c, err := p.connect(ctx, deadline)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return c.exchange(ctx, r, deadline)
}

// enter waits for one of the slots.
func (p *Client) enter(ctx context.Context, deadline time.Time) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns an idle connection that is fit for a request, nil if there is none.
func (p *Client) take(ctx context.Context) *conn {
	for {
		p.mu.Lock()
		p.closed = false
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.silent() && c.watch(ctx) {
			return c
		}
		c.close()
	}
}

// connect makes a new connection.
func (p *Client) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	made, err := p.dial(dialing, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	c := newConn(p, made)
	c.watch(ctx)
	return c, nil
}

// Silent says whether nothing has come over the connections that are idle.
func (p *Client) Silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(p.idle, func(c *conn) bool { return !c.silent() })
}

// leave takes a connection back, for the next request if it is fit for one.
func (p *Client) leave(c *conn, fit bool) {
	if !fit || !p.keep(c) {
		c.close()
	}
	<-p.slots
}

func (p *Client) keep(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.retired {
		return false
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	switch {
	case p.armed:
	case p.sweep == nil:
		p.sweep = time.AfterFunc(IdleTimeout, p.closeOld)
	default:
		p.sweep.Reset(IdleTimeout)
	}
	p.armed = true
	return true
}

// closeOld closes what has been idle for too long, and looks again when the next one will have been.
func (p *Client) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= IdleTimeout {
		p.idle[n].close()
		n++
	}
	p.idle = slices.Delete(p.idle, 0, n)
	if p.armed = len(p.idle) > 0; p.armed {
		p.sweep.Reset(p.idle[0].since.Add(IdleTimeout).Sub(now))
	}
}

// Retire closes the connections that carry no request, and those that do when it ends, for good: whoever comes late finds none.
func (p *Client) Retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	p.CloseIdleConnections()
}

// CloseIdleConnections closes all connections that carry no request, and those that carry one when it ends, unless another
// has begun by then.
func (p *Client) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle, p.closed = nil, true
	if p.armed {
		p.sweep.Stop()
		p.armed = false
	}
}

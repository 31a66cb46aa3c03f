package webhook

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// direct keeps the connections to a destination that is reached over plain TCP: http, and no proxy. Each request is written,
// and its answer read, by the goroutine that has it. With http.Transport that takes two more goroutines, and more than
// twice the CPU; it stays in charge where there is TLS or a proxy.
type direct struct {
	dial  dialFunc
	addr  string
	start []byte        // of every request: its first line, Host and User-Agent
	slots chan struct{} // one for each connection that is in use

	mu     sync.Mutex
	idle   []*directConn // the one used last at the end
	closed bool          // since the last request began: what becomes idle is closed
	sweep  *time.Timer   // closes what has been idle for too long; nil before anything was
	armed  bool          // sweep is going to
}

// newDirect returns nil where the URL takes more than this, such as a host that is not ASCII.
func newDirect(target *url.URL, userAgent string, lanes int, dial dialFunc) *direct {
	if !canPeek || target.Scheme != "http" || strings.ContainsFunc(target.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
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
	return &direct{dial: dial, addr: proxyAddr(target), start: start, slots: make(chan struct{}, lanes)}
}

// roundTrip sends the request and reads the answer's headers. Its body, which must be closed, can be read until the
// deadline; then, or when ctx ends, everything fails. The request is sent again, over a new connection, only if a connection
// that was kept broke before a byte of an answer came: it may have been closed long ago.
func (p *direct) roundTrip(ctx context.Context, r *request, deadline time.Time) (*http.Response, error) {
	if err := r.encode(p.start); err != nil {
		return nil, err
	}
	if err := p.enter(ctx, deadline); err != nil {
		return nil, err
	}
	if c := p.take(ctx); c != nil {
		res, err := c.exchange(ctx, r, deadline)
		if err == nil || c.answered || isTimeout(err) || ctx.Err() != nil {
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
func (p *direct) enter(ctx context.Context, deadline time.Time) error {
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
func (p *direct) take(ctx context.Context) *directConn {
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
func (p *direct) connect(ctx context.Context, deadline time.Time) (*directConn, error) {
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := p.dial(dialing, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	c := newDirectConn(p, conn)
	c.watch(ctx)
	return c, nil
}

// leave takes a connection back, for the next request if it is fit for one.
func (p *direct) leave(c *directConn, fit bool) {
	if !fit || !p.keep(c) {
		c.close()
	}
	<-p.slots
}

func (p *direct) keep(c *directConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	switch {
	case p.armed:
	case p.sweep == nil:
		p.sweep = time.AfterFunc(idleTimeout, p.closeOld)
	default:
		p.sweep.Reset(idleTimeout)
	}
	p.armed = true
	return true
}

// closeOld closes what has been idle for too long, and looks again when the next one will have been.
func (p *direct) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= idleTimeout {
		p.idle[n].close()
		n++
	}
	p.idle = slices.Delete(p.idle, 0, n)
	if p.armed = len(p.idle) > 0; p.armed {
		p.sweep.Reset(p.idle[0].since.Add(idleTimeout).Sub(now))
	}
}

// CloseIdleConnections closes all connections that carry no request, and those that carry one when it ends, unless another
// has begun by then.
func (p *direct) CloseIdleConnections() {
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

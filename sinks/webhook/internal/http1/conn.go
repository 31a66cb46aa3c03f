package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	// IdleTimeout is how long a connection is kept without a request.
	IdleTimeout = 90 * time.Second
	// MaxHeader bounds the headers of an answer, in bytes.
	MaxHeader = 64 << 10
	// smallRequest is what sockets take without the receiver reading. A larger one is written while the answer is awaited, which
	// may come before all of it was read.
	smallRequest = 16 << 10
	// writeWait is how long an answer waits for the rest of the request to be taken, before the connection is given up.
	writeWait = 50 * time.Millisecond
)

var errLongHeader = fmt.Errorf("response headers exceeded %d bytes", MaxHeader)

// conn is a connection of a Client. It carries one request at a time.
type conn struct {
	pool *Client
	conn net.Conn
	raw  syscall.RawConn // nil if there is none: the connection is not used again
	peek func(fd uintptr)
	// Where there is TLS, these two instead.
	tls     *tls.Conn
	records *Records      // nil if there are none: the connection is not used again
	br      *bufio.Reader // reads from the conn

	readable int64      // bytes that may still be read
	answered bool       // a byte of the answer has come
	broken   error      // why no more can be read, which a bufio.Reader hides at times
	written  chan error // gives the end of a large request's writing; nil if there is none
	since    time.Time  // when it became idle
	pending  bool       // bytes wait in the socket, or its end, see silent

	done <-chan struct{} // of the context that is watched, nil for none
	stop func() bool
}

func newConn(p *Client, made net.Conn) *conn {
	c := &conn{pool: p, conn: made}
	c.br = bufio.NewReader(c)
	if secure, ok := made.(*tls.Conn); ok {
		c.tls = secure
		c.records, _ = secure.NetConn().(*Records)
		return c
	}
	if socket, ok := made.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // on an error there is none
	}
	c.peek = func(fd uintptr) { c.pending = peek(fd) }
	return c
}

// Read is for br. It bounds what a receiver can make us read.
func (c *conn) Read(b []byte) (int, error) {
	if c.readable <= 0 {
		c.broken = errLongHeader
		return 0, c.broken
	}
	n, err := c.conn.Read(b[:min(int64(len(b)), c.readable)])
	c.readable -= int64(n)
	c.answered = c.answered || n > 0
	if err != nil && err != io.EOF {
		c.broken = err
	}
	return n, err
}

// silent says whether nothing has come over an idle connection. If something has, be it the end of it, then it is not the
// answer to the next request.
func (c *conn) silent() bool {
	if c.tls != nil {
		return c.records != nil && c.records.silent(c.tls)
	}
	return c.raw != nil && c.raw.Control(c.peek) == nil && !c.pending
}

// watch makes the end of ctx end what the connection does. Requests mostly have the same context, so that nothing is left to do. It
// returns false if the connection is not fit any more, since the context before has ended.
func (c *conn) watch(ctx context.Context) bool {
	done := ctx.Done()
	if done == c.done {
		return true
	}
	if !c.unwatch() {
		return false
	}
	if done != nil {
		c.stop = context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	}
	c.done = done
	return true
}

func (c *conn) unwatch() bool {
	ok := c.stop == nil || c.stop()
	c.done, c.stop = nil, nil
	return ok
}

// cut ends a connection that does not work any more. TLS would say goodbye first, and wait for a socket that takes nothing.
func (c *conn) cut() {
	if c.records != nil {
		c.records.Close()
	}
}

func (c *conn) close() {
	c.unwatch()
	c.conn.Close()
}

// exchange leaves the connection when the answer's body is closed, or at once if there is none.
func (c *conn) exchange(ctx context.Context, r Request, deadline time.Time) (*http.Response, error) {
	c.answered, c.broken, c.readable = false, nil, MaxHeader
	res, err := c.ask(ctx, r, deadline)
	if err != nil {
		c.cut()
		c.leave(false)
		if IsTimeout(err) {
			err = context.DeadlineExceeded // without addresses in its text
		}
		return nil, err
	}
	c.readable = math.MaxInt64
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		c.leave(false)
		res.Body = http.NoBody
	case res.Body == http.NoBody:
		c.leave(!res.Close)
	default:
		res.Body = &body{src: res.Body, conn: c, last: res.Close}
	}
	return res, nil
}

func (c *conn) ask(ctx context.Context, r Request, deadline time.Time) (*http.Response, error) {
	_ = c.conn.SetDeadline(deadline) // on an error, writing fails as well
	// Had ctx ended before, its end could have been undone by that.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	unsent := c.send(r)
	// Also after an error: the receiver may have answered before it stopped reading.
	res, err := c.receive()
	switch {
	case err == nil:
		return res, nil
	case unsent != nil && !c.answered:
		return nil, unsent
	case c.broken != nil:
		return nil, c.broken
	}
	return nil, err
}

func (c *conn) send(r Request) error {
	if head := *r.Head; len(head)+len(r.Body) <= smallRequest {
		all := append(head, r.Body...)
		_, err := c.conn.Write(all)
		*r.Head = all[:len(head)]
		return err
	}
	c.written = make(chan error, 1)
	go func() {
		parts := net.Buffers{*r.Head, r.Body}
		_, err := parts.WriteTo(c.conn)
		c.written <- err
	}()
	return nil
}

// receive reads up to the end of the headers. Informational answers before it count in their bound.
func (c *conn) receive() (*http.Response, error) {
	for {
		// ReadResponse would hide that nothing came.
		if _, err := c.br.Peek(1); err != nil {
			return nil, err
		}
		res, err := http.ReadResponse(c.br, nil)
		if err != nil || res.StatusCode/100 != 1 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
	}
}

// leave gives the connection back. It is fit for another request if this one went out as a whole, and nothing came behind
// the answer.
func (c *conn) leave(fit bool) {
	fit = c.sent(fit) && fit && c.br.Buffered() == 0
	if !fit {
		c.conn.Close()
	}
	if c.written != nil {
		<-c.written
		c.written = nil
	}
	c.pool.leave(c, fit)
}

// sent says whether the request went out, and waits a moment for that if it makes a difference.
func (c *conn) sent(wait bool) bool {
	if c.written == nil {
		return true
	}
	if !wait {
		return false
	}
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case err := <-c.written:
		c.written = nil
		return err == nil
	case <-timer.C:
		return false
	}
}

// body is the body of an answer. Closing it early drops the connection.
type body struct {
	src         io.Reader
	conn        *conn // nil once it is closed
	last, ended bool  // no request can follow; the body was read to its end
}

func (b *body) Read(p []byte) (int, error) {
	if b.conn == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.src.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

func (b *body) Close() error {
	if b.conn != nil {
		b.conn.leave(b.ended && !b.last)
		b.conn = nil
	}
	return nil
}

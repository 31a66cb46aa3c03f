package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver takes requests and says the same to each, over one connection or many.
type receiver struct {
	*Client
	conns atomic.Int32
}

func serve(t *testing.T, answer string) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{Client: New(&url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/"}, "test", 2, new(net.Dialer).DialContext)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.conns.Add(1)
			wg.Go(func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(c, answer)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); r.CloseIdleConnections(); wg.Wait() })
	return r
}

func (r *receiver) post(t *testing.T) {
	t.Helper()
	head := append(slices.Clone(r.Start), "Content-Length: 2\r\n\r\n"...)
	res, err := r.RoundTrip(t.Context(), Request{&head, []byte("hi")}, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d, %v", res.StatusCode, err)
	}
}

// A context that has ended stays so, though each request sets the deadline anew.
func TestContextThatHasEnded(t *testing.T) {
	r := serve(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	c, err := r.connect(ctx, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := c.conn.Read(make([]byte, 1)); !IsTimeout(err) {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	if err := r.enter(ctx, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.exchange(ctx, Request{Head: new([]byte)}, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Idle connections are closed in the end, by and by or at once.
func TestClosesIdle(t *testing.T) {
	r := serve(t, "HTTP/1.1 204 No Content\r\n\r\n")
	idle := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.idle)
	}
	r.post(t)
	r.closeOld()
	if n := idle(); n != 1 || !r.armed {
		t.Errorf("%d idle connections, want the one that was just used, and to look at it later", n)
	}
	r.mu.Lock()
	r.idle[0].since = time.Now().Add(-IdleTimeout)
	r.mu.Unlock()
	r.closeOld()
	if n := idle(); n != 0 || r.armed {
		t.Errorf("%d idle connections after the idle timeout", n)
	}
	r.post(t)
	r.CloseIdleConnections()
	if n := idle(); n != 0 || r.armed {
		t.Errorf("%d idle connections after they were closed", n)
	}
	r.post(t)
	if n := r.conns.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}

	// One that is in use is closed when its request ends.
	c, err := r.connect(t.Context(), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.enter(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	r.CloseIdleConnections()
	r.leave(c, true)
	if n := idle(); n != 0 || c.conn.SetDeadline(time.Now()) == nil {
		t.Errorf("%d idle connections after the end of a request that began before they were closed", n)
	}

	// Whoever comes late leaves none either, where they are closed for good.
	r.post(t)
	r.Retire()
	r.post(t)
	if n := idle(); n != 0 {
		t.Errorf("%d idle connections of a client that has retired", n)
	}
}

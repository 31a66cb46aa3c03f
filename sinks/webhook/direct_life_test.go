package webhook

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A context ends what its request does, and nothing of the next one, which may take the same connection.
func TestDirectContexts(t *testing.T) { eachScheme(t, contexts) }

func contexts(t *testing.T, scheme string) {
	hung := make(chan struct{}, 1)
	var hang atomic.Pointer[string] // what is said before nothing more comes; nil: an answer
	p := talkOver(t, scheme, true, func(c net.Conn, _, _ int) bool {
		if text := hang.Load(); text != nil {
			_, _ = io.WriteString(c, *text)
			hung <- struct{}{}
			return true
		}
		return saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(c, 0, 0)
	})
	s := open(t, Config{URL: p.url, Timeout: time.Hour, Options: Options{TLS: skipVerify}}) // what only it would end, fails the test
	deliver := func(ctx context.Context) error {
		return sinktest.Deliver(ctx, s, sinktest.NewDelivery("a", "1"))[0]
	}
	for i := range 20 { // Each context ends while the connection is idle, or is in use with another one.
		ctx, cancel := context.WithCancel(t.Context())
		if err := deliver(ctx); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			cancel()
		}
		if err := deliver(t.Context()); err != nil {
			t.Fatalf("a context that ended before: %v", err)
		}
		cancel()
	}
	for _, text := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := deliver(ctx); err != nil {
			t.Fatal(err)
		}
		hang.Store(&text)
		go func() { <-hung; cancel() }()
		// Whether the status was read by then is not known.
		if err := deliver(ctx); !errors.Is(err, context.Canceled) && (err != nil || text == "") {
			t.Errorf("cancelled after %q: %v", text, err)
		}
		hang.Store(nil)
		if err := deliver(t.Context()); err != nil {
			t.Errorf("the next one: %v", err)
		}
		cancel()
	}
	// The deadline of a context is no timeout of the destination.
	text := ""
	hang.Store(&text)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := deliver(ctx); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "no answer") {
		t.Errorf("past the deadline: %v", err)
	}
	<-hung
}

// More callers than lanes wait for each other.
func TestDirectIsBounded(t *testing.T) {
	answer := make(chan struct{})
	p := talk(t, true, func(c net.Conn, _, _ int) bool {
		<-answer
		return saying("HTTP/1.1 204 No Content\r\n\r\n")(c, 0, 0)
	})
	s := open(t, Config{URL: p.url, Lanes: 2, Timeout: time.Minute, Options: Options{Concurrency: ConcurrencyFixed}})
	outcomes := make(chan error)
	for range 2 {
		go func() { outcomes <- sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0] }()
	}
	for p.conns.Load() < 2 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sinktest.Deliver(ctx, s, sinktest.NewDelivery("a", "1"))[0]; err == nil {
		t.Error("a third delivery found a connection")
	}
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	close(answer)
	for range 2 {
		sinktest.WantKinds(t, []error{<-outcomes}, sinks.KindAccepted)
	}
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections in the end, want 2", n)
	}
}

// They wait for no longer than an attempt may take.
func TestWaitForDirectIsBounded(t *testing.T) {
	answer := make(chan struct{})
	p := talk(t, true, func(c net.Conn, _, _ int) bool {
		<-answer
		return saying("HTTP/1.1 204 No Content\r\n\r\n")(c, 0, 0)
	})
	s := open(t, Config{URL: p.url, Lanes: 2, Timeout: 300 * time.Millisecond, Options: Options{Concurrency: ConcurrencyFixed}})
	outcomes := make(chan error)
	for range 3 {
		go func() { outcomes <- sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0] }()
	}
	for range 3 {
		sinktest.WantKinds(t, []error{<-outcomes}, sinks.KindUnavailable)
	}
	close(answer)
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
}

// What direct is in charge of: what no proxy is for.
func TestDirectIsForNoProxy(t *testing.T) {
	t.Setenv("POSTRIDER_TEST_PROXY", "http://127.0.0.1:3128")
	for _, c := range []struct {
		cfg  Config
		addr string
	}{
		{Config{URL: "http://host"}, "host:80"},
		{Config{URL: "http://host:8080/a"}, "host:8080"},
		{Config{URL: "http://[::1]/a"}, "[::1]:80"},
		{Config{URL: "http://[fe80::1%25lo]:81/a"}, "[fe80::1%lo]:81"},
		{Config{URL: "http://bücher.example/a"}, ""},
		{Config{URL: "https://host"}, "host:443"},
		{Config{URL: "https://host:8443/a", Options: Options{HTTP2: new(bool)}}, "host:8443"},
		{Config{URL: "https://bücher.example/a"}, ""},
		{Config{URL: "https://host", Options: Options{Proxy: "env:POSTRIDER_TEST_PROXY"}}, ""},
		{Config{URL: "http://host", Options: Options{Proxy: "env:POSTRIDER_TEST_PROXY"}}, ""},
	} {
		d := open(t, c.cfg).transport.Connections(time.Now()).HTTP1
		if (d != nil) != (c.addr != "") || d != nil && d.Addr != c.addr {
			t.Errorf("%s: %+v, want a connection to %q", c.cfg.URL, d, c.addr)
		}
	}
}

package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// servePeer reads a request from each connection and leaves the answer to speak, which returns when its peer is gone or
// it has said enough; then the connection is closed.
func servePeer(t *testing.T, speak func(c net.Conn, req string)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return servePeerOn(t, l, speak)
}

func servePeerOn(t *testing.T, l net.Listener, speak func(c net.Conn, req string)) string {
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				var text strings.Builder
				r := bufio.NewReader(io.TeeReader(c, &text))
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				speak(c, text.String())
			})
		}
	})
	return l.Addr().String()
}

// say writes text once, then more of the rest until the peer is gone.
func say(text, rest string, pause time.Duration) func(net.Conn, string) {
	again := []byte(rest)
	return func(c net.Conn, _ string) {
		_, err := io.WriteString(c, text)
		if rest == "" {
			return
		}
		for err == nil {
			// This is what a slow peer does, nothing waits for it.
			time.Sleep(pause)
			_, err = c.Write(again)
		}
	}
}

func hang(text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

func TestHostileAnswers(t *testing.T) {
	var logged logBuffer
	log.SetFlags(0)
	log.SetOutput(LogWriter(slog.New(slog.NewTextHandler(&logged, nil))))
	t.Cleanup(func() { // After the parallel tests.
		log.SetFlags(log.LstdFlags)
		log.SetOutput(os.Stderr)
		if text := logged.String(); !strings.Contains(text, "Unsolicited response") || strings.Contains(text, "s3cret") || strings.Contains(text, "xxx") {
			t.Errorf("logged %.2000s", text)
		}
	})
	const (
		timeout = 500 * time.Millisecond
		secret  = "s3cret"
	)
	long := strings.Repeat("x", 8<<10)
	for name, c := range map[string]struct {
		speak  func(net.Conn, string)
		kind   sinks.Kind
		reason string
	}{
		"silence":                     {hang(""), sinks.KindUnavailable, "no answer within 500ms"},
		"closed at once":              {say("", "", 0), sinks.KindRetryable, "the connection broke before an answer came: EOF"},
		"a byte now and then":         {say("", "H", 50*time.Millisecond), sinks.KindUnavailable, "no answer within"},
		"headers now and then":        {say("HTTP/1.1 200 OK\r\n", "a: b\r\n", 50*time.Millisecond), sinks.KindUnavailable, "no answer within"},
		"a header that never ends":    {say("HTTP/1.1 200 OK\r\na: ", long, 0), sinks.KindRetryable, "has a form or size that cannot be used: "},
		"headers that never end":      {say("HTTP/1.1 200 OK\r\n", "a: "+long+"\r\n", 0), sinks.KindRetryable, "has a form or size that cannot be used: "},
		"a status line without end":   {say("HTTP/1.1 200 ", long, 0), sinks.KindRetryable, "has a form or size that cannot be used: "},
		"informational without end":   {say("", "HTTP/1.1 103 Early Hints\r\nlink: "+long+"\r\n\r\n", 0), sinks.KindRetryable, "has a form or size that cannot be used"},
		"small informational flood":   {say("", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50), 0), sinks.KindRetryable, "has a form or size that cannot be used"},
		"slow informational":          {say("", "HTTP/1.1 102 Processing\r\n\r\n", 100*time.Millisecond), sinks.KindUnavailable, "no answer within"},
		"switching protocols":         {hang("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"), sinks.KindRetryable, "answered 101"},
		"half a header":               {say("HTTP/1.1 200 OK\r\nContent-Le", "", 0), sinks.KindRetryable, "the answer is malformed, or broke off"},
		"not HTTP":                    {say("220 smtp.example ESMTP "+secret+"\r\n", "", 0), sinks.KindRetryable, "has a form or size that cannot be used: "},
		"an echo":                     {func(c net.Conn, req string) { _, _ = io.WriteString(c, req) }, sinks.KindRetryable, "malformed HTTP"},
		"an echo below a status line": {func(c net.Conn, req string) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+req) }, sinks.KindRetryable, "malformed MIME header"},
		"a bad header below it":       {say("HTTP/1.1 200 OK\r\nPOST /"+secret+" HTTP: 1.1\r\n\r\n", "", 0), sinks.KindRetryable, "malformed MIME header"},
		"an echo as length":           {func(c net.Conn, req string) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+req) }, sinks.KindRetryable, "Content-Length"},
		"an unknown encoding":         {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: "+secret+"\r\n\r\n", "", 0), sinks.KindRetryable, "transfer encoding"},
		"two lengths":                 {say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", "", 0), sinks.KindRetryable, "Content-Length"},

		// A status that came is what counts.
		"an endless body":          {say("HTTP/1.1 200 OK\r\n\r\n", long, 0), sinks.KindAccepted, ""},
		"endless chunks":           {say("HTTP/1.1 204 No Content\r\n\r\n", long, 0), sinks.KindAccepted, ""},
		"a body now and then":      {say("HTTP/1.1 200 OK\r\n\r\n", "x", 50*time.Millisecond), sinks.KindAccepted, ""},
		"a body that never comes":  {hang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), sinks.KindAccepted, ""},
		"a body cut off":           {say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "", 0), sinks.KindAccepted, ""},
		"bad chunks":               {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "", 0), sinks.KindAccepted, ""},
		"a chunk of all there is":  {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", long, 0), sinks.KindAccepted, ""},
		"an error without end":     {say("HTTP/1.1 503 Oh\r\n\r\n", long, 0), sinks.KindUnavailable, "answered 503 Service Unavailable: xxx"},
		"an error now and then":    {say("HTTP/1.1 500 Oh\r\n\r\nlate", "x", 50*time.Millisecond), sinks.KindRetryable, "answered 500 Internal Server Error: late"},
		"an error without a body":  {hang("HTTP/1.1 400 Oh\r\nContent-Length: 99\r\n\r\nwhy"), sinks.KindPermanent, "answered 400 Bad Request: why"},
		"trailers without end":     {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n", 0), sinks.KindAccepted, ""},
		"trailers now and then":    {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n", 50*time.Millisecond), sinks.KindAccepted, ""},
		"one answer after another": {say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 0), sinks.KindAccepted, ""},
		"an echo behind an answer": {func(c net.Conn, req string) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+req)
		}, sinks.KindAccepted, ""},
		"reset in the middle": {func(c net.Conn, _ string) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
			reset(c)
		}, sinks.KindRetryable, "broke"},
		"reset in the body": {func(c net.Conn, _ string) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			reset(c)
		}, sinks.KindAccepted, ""},
	} {
		for _, way := range []string{"http", "https", "https by a proxy"} { // the last by net/http
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				var host, proxy string
				scheme, _, proxied := strings.Cut(way, " ")
				if scheme == "http" {
					host = servePeer(t, c.speak)
				} else {
					host = servePeerTLS(t, c.speak)
				}
				if proxied {
					proxy = "http://" + newForwardProxy(t, host, "", nil).addr
				}
				s := open(t, Config{URL: scheme + "://joe:" + secret + "@" + host + "/" + secret + "?token=" + secret, Timeout: timeout,
					Options: Options{TLS: skipVerify, Proxy: proxy}})
				ctx, cancel := context.WithTimeout(t.Context(), sinktest.Patience)
				defer cancel()
				out := sinktest.Deliver(ctx, s, sinktest.NewDelivery("a", `"`+secret+`"`))
				sinktest.WantKinds(t, out, c.kind)
				if ctx.Err() != nil {
					t.Errorf("not the timeout of %s ended it, but the test after %s", timeout, sinktest.Patience)
				}
				if out[0] != nil {
					text := out[0].Error()
					if !strings.Contains(text, c.reason) || strings.Contains(text, secret) || len(text) > 600 {
						t.Errorf("the reason is %.600q, want %q in it, and no secret", text, c.reason)
					}
				}
			})
		}
	}
}

// servePeerTLS does not choose a protocol, so that it is HTTP/1.1.
func servePeerTLS(t *testing.T, speak func(c net.Conn, req string)) string {
	conf := &tls.Config{Certificates: []tls.Certificate{newAuthority(t, "peer").pair("server")}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	return servePeerOn(t, l, speak)
}

// reset makes the end of the connection an abrupt one.
func reset(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	_ = c.(*net.TCPConn).SetLinger(0)
}

// logBuffer is a strings.Builder for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.String()
}

// Memory does not grow with what a peer sends, however many lanes it sends to.
func TestHostileAnswersAreBoundedInMemory(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for name, text := range map[string]string{"body": "HTTP/1.1 500 Oh\r\n\r\n", "header": "HTTP/1.1 500 Oh\r\na: "} {
		host := servePeer(t, say(text, big, 0))
		s := open(t, Config{URL: "http://" + host, Timeout: 5 * time.Second, Lanes: 8})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindRetryable)
				}
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / 40; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated for each answer", name, n)
		}
	}
}

package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// talker is a peer that reads requests and leaves the answers to a function.
type talker struct {
	url             string
	conns, requests atomic.Int32
}

// talk starts a talker. Answer gets the number of the connection and of the request on it, from 1; it returns false to
// close the connection. Without whole, bodies are not read.
func talk(t testing.TB, whole bool, answer func(c net.Conn, conn, request int) bool) *talker {
	return talkOver(t, "http", whole, answer)
}

// talkOver is talk over a scheme; over https it does not choose a protocol, so that it is HTTP/1.1.
func talkOver(t testing.TB, scheme string, whole bool, answer func(c net.Conn, conn, request int) bool) *talker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &talker{url: scheme + "://" + l.Addr().String()}
	if scheme == "https" {
		l = tls.NewListener(l, &tls.Config{
			Certificates:                []tls.Certificate{newAuthority(t, "talker").pair("server")},
			DynamicRecordSizingDisabled: true, // what is written at once is one record
		})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range all {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			n := int(p.conns.Add(1))
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for i := 1; ; i++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if whole {
						_, _ = io.Copy(io.Discard, req.Body)
					}
					p.requests.Add(1)
					if !answer(c, n, i) {
						return
					}
				}
			})
		}
	})
	return p
}

// eachScheme runs a test plain and over TLS.
func eachScheme(t *testing.T, test func(t *testing.T, scheme string)) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) { test(t, scheme) })
	}
}

func saying(text string) func(net.Conn, int, int) bool {
	return func(c net.Conn, _, _ int) bool {
		_, err := io.WriteString(c, text)
		return err == nil
	}
}

// After which answers a connection is used again.
func TestDirectKeepsConnections(t *testing.T) {
	const ok = "HTTP/1.1 204 No Content\r\n\r\n"
	for name, c := range map[string]struct {
		answer string
		kind   sinks.Kind
		kept   bool
	}{
		"no body":                     {ok, 0, true},
		"length 0":                    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, true},
		"a body":                      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, true},
		"a body of many reads":        {"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000), 0, true},
		"an error":                    {"HTTP/1.1 500 Oh\r\nContent-Length: 900\r\n\r\n" + strings.Repeat("x", 900), sinks.KindRetryable, true},
		"chunks":                      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0, true},
		"chunks and trailers":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n2;x=y\r\nok\r\n0\r\na: b\r\n\r\n", 0, true},
		"informational before it":     {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok, 0, true},
		"HTTP/1.0, kept":              {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 0, true},
		"HTTP/1.0":                    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, false},
		"connection: close":           {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 0, false},
		"connection: close, no body":  {"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 0, false},
		"more than the drain's bound": {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), 0, false},
		"garbage behind":              {ok + "x", 0, false},
		"garbage behind a body":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokok", 0, false},
		// Of the last one, reading ahead takes the headers and 4055 bytes, and the body the other 4096: what is behind stays in the record.
		"garbage behind a long body": {"HTTP/1.1 200 OK\r\nContent-Length: 8151\r\n\r\n" + strings.Repeat("x", 8152), 0, false},
		"an answer behind":           {ok + "HTTP/1.1 410 Gone\r\n\r\n", 0, false},
		"a late informational one":   {ok + "HTTP/1.1 100 Continue\r\n\r\n", 0, false},
		"bad chunks":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, false},
		"switching protocols":        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", sinks.KindRetryable, false},
	} {
		t.Run(name, func(t *testing.T) {
			eachScheme(t, func(t *testing.T, scheme string) {
				t.Parallel()
				p := talkOver(t, scheme, true, saying(c.answer))
				s := open(t, Config{URL: p.url, Options: Options{TLS: skipVerify}})
				for range 3 {
					sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", `"b"`)), c.kind)
				}
				if n := p.conns.Load(); (n == 1) != c.kept || n != 1 && n != 3 || p.requests.Load() != 3 {
					t.Errorf("%d connections and %d requests for 3 messages, kept should be %v", n, p.requests.Load(), c.kept)
				}
			})
		})
	}
}

// What comes while a connection is idle is not the answer to the next request.
func TestDirectUnsolicited(t *testing.T) {
	for name, unsolicited := range map[string]string{"answer": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", "end": "", "end of one half": ""} {
		t.Run(name, func(t *testing.T) {
			eachScheme(t, func(t *testing.T, scheme string) {
				speak, spoken := make(chan struct{}), make(chan struct{})
				p := talkOver(t, scheme, true, func(c net.Conn, conn, _ int) bool {
					if ok := saying("HTTP/1.1 204 No Content\r\n\r\n")(c, 0, 0); conn > 1 {
						return ok
					}
					<-speak
					_, _ = io.WriteString(c, unsolicited)
					switch name {
					case "end":
						c.Close()
					case "end of one half": // over TLS that is close_notify alone
						if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
							t.Error(err)
						}
					}
					close(spoken)
					return true
				})
				s := open(t, Config{URL: p.url, Options: Options{TLS: skipVerify}})
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				close(speak)
				<-spoken
				direct := s.transport.Connections(time.Now()).HTTP1
				eventually(t, "something on the connection", func() bool { return !direct.Silent() })
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				if n := p.requests.Load(); n != 2 {
					t.Errorf("%d requests for two messages", n)
				}
			})
		})
	}
}

// A request is sent again only if a connection that was kept ended before a byte of the answer.
func TestDirectSendsAgain(t *testing.T) {
	const ok = "HTTP/1.1 204 No Content\r\n\r\n"
	for name, c := range map[string]struct {
		last     string // what the first connection says to its second request
		end      func(c net.Conn) bool
		kind     sinks.Kind
		requests int32
	}{
		"closed":           {"", func(net.Conn) bool { return false }, sinks.KindAccepted, 3},
		"reset":            {"", func(c net.Conn) bool { reset(c); return false }, sinks.KindAccepted, 3},
		"closed in answer": {"H", func(net.Conn) bool { return false }, sinks.KindRetryable, 2},
		"reset in answer":  {"HTTP/1.1 200 OK\r\n", func(c net.Conn) bool { reset(c); return false }, sinks.KindRetryable, 2},
		"not HTTP":         {"220 hello\r\n", func(net.Conn) bool { return false }, sinks.KindRetryable, 2},
		"silence":          {"", func(net.Conn) bool { return true }, sinks.KindUnavailable, 2},
	} {
		t.Run(name, func(t *testing.T) {
			eachScheme(t, func(t *testing.T, scheme string) {
				t.Parallel()
				p := talkOver(t, scheme, true, func(peer net.Conn, conn, request int) bool {
					if conn > 1 || request == 1 {
						return saying(ok)(peer, 0, 0)
					}
					_, _ = io.WriteString(peer, c.last)
					return c.end(peer)
				})
				s := open(t, Config{URL: p.url, Timeout: time.Second, Options: Options{TLS: skipVerify}})
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
				sinktest.WantKinds(t, out, c.kind)
				if c.kind == sinks.KindUnavailable && !strings.Contains(out[0].Error(), "no answer within") {
					t.Errorf("the reason is %v", out[0])
				}
				if n := p.requests.Load(); n != c.requests {
					t.Errorf("%d requests for two messages, want %d", n, c.requests)
				}
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
			})
		})
	}
}

// A request that does not fit into the sockets' buffers can be answered before it was read.
func TestDirectLargeRequests(t *testing.T) { eachScheme(t, largeRequests) }

func largeRequests(t *testing.T, scheme string) {
	large := `"` + strings.Repeat("x", 16<<20) + `"`
	t.Run("answered early", func(t *testing.T) {
		p := talkOver(t, scheme, false, func(c net.Conn, _, _ int) bool {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
			if secure, ok := c.(*tls.Conn); ok {
				c = secure.NetConn() // of a record that was read, the rest would be read after the end
			}
			_, _ = io.Copy(io.Discard, &slowReader{c}) // until the sink closes it
			return false
		})
		s := open(t, Config{URL: p.url, Timeout: time.Hour, Options: Options{TLS: skipVerify}}) // whoever waits for it, waits for ever
		for range 2 {
			out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", large))
			sinktest.WantKinds(t, out, sinks.KindPermanent)
			if !strings.Contains(out[0].Error(), "413") || !strings.HasSuffix(out[0].Error(), "long") {
				t.Errorf("the reason is %v", out[0])
			}
		}
		if n := p.conns.Load(); n != 2 {
			t.Errorf("%d connections for 2 requests of which half was sent", n)
		}
	})
	t.Run("read", func(t *testing.T) {
		p := talkOver(t, scheme, true, saying("HTTP/1.1 204 No Content\r\n\r\n"))
		s := open(t, Config{URL: p.url, Options: Options{TLS: skipVerify}})
		for _, payload := range []string{large, "1", large} {
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", payload)), sinks.KindAccepted)
		}
		if n := p.conns.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
	t.Run("never read", func(t *testing.T) {
		p := talkOver(t, scheme, false, func(net.Conn, int, int) bool {
			<-t.Context().Done()
			return false
		})
		s := open(t, Config{URL: p.url, Timeout: 300 * time.Millisecond, Options: Options{TLS: skipVerify}})
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", large)), sinks.KindUnavailable)
	})
}

// slowReader reads no faster than a peer that is not interested: what was sent stays in the buffers.
type slowReader struct{ c net.Conn }

func (r *slowReader) Read(b []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return r.c.Read(b[:1])
}

// A request takes few allocations, and mostly the answer's: no context, timer or goroutine.
func TestDirectAllocations(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		request, answer := make([]byte, 4<<10), []byte("HTTP/1.1 204 No Content\r\n\r\n")
		for n := 0; ; {
			more, err := c.Read(request[n:])
			if err != nil {
				return
			}
			if n += more; !bytes.HasSuffix(request[:n], []byte(`"body"`)) {
				continue
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
			n = 0
		}
	})
	s := open(t, Config{URL: "http://" + l.Addr().String()})
	t.Cleanup(func() { s.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	batch, outcomes := []sinks.Delivery{sinktest.NewDelivery("a", `"body"`)}, make([]error, 1)
	n := testing.AllocsPerRun(200, func() {
		if s.Deliver(ctx, batch, outcomes); outcomes[0] != nil {
			t.Fatal(outcomes[0])
		}
	})
	most := 5.0
	if raceDetector() {
		most = 15 // its pools throw things away
	}
	if n > most {
		t.Errorf("%v allocations for a message", n)
	}
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

package webhook

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// corked is a connection whose writes can be put together, so that they come at once.
type corked struct {
	net.Conn
	on   bool
	text bytes.Buffer
}

func (c *corked) Write(b []byte) (int, error) {
	if c.on {
		return c.text.Write(b)
	}
	return c.Conn.Write(b)
}

// flush sends what was put together, but for so many bytes.
func (c *corked) flush(but int) {
	c.on = false
	_, _ = c.Conn.Write(c.text.Bytes()[:c.text.Len()-but]) // else its peer is gone
}

type corkListener struct{ net.Listener }

func (l corkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &corked{Conn: c}, err
}

// What comes in a record of its own, behind the answer and together with it, is not the answer to the next request either, be it complete or not.
func TestDirectUnsolicitedRecord(t *testing.T) {
	const ok, gone = "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
	for name, but := range map[string]int{"complete": 0, "without its end": 5, "the first of its header": len(gone) + 19} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var requests atomic.Int32
			conf := &tls.Config{Certificates: []tls.Certificate{newAuthority(t, "peer").pair("server")}}
			addr := servePeerOn(t, tls.NewListener(corkListener{l}, conf), func(c net.Conn, _ string) {
				requests.Add(1)
				cork := c.(*tls.Conn).NetConn().(*corked)
				cork.on = true
				_, _ = io.WriteString(c, ok)
				_, _ = io.WriteString(c, gone)
				cork.flush(but)
				_, _ = io.Copy(io.Discard, c)
			})
			s := open(t, Config{URL: "https://" + addr, Timeout: sinktest.Patience, Options: Options{TLS: skipVerify}})
			for i := range 3 {
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				if n := int(requests.Load()); n != i+1 {
					t.Fatalf("%d connections for %d messages", n, i+1)
				}
			}
		})
	}
}

// A destination that has answered with our certificate likes it: what breaks later has other reasons.
func TestProvedCertificateIsNotBlamed(t *testing.T) {
	a := newAuthority(t, "ours")
	f := newFiles(t)
	certPEM, keyPEM := a.issue("client")
	var requests atomic.Int32
	r := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if requests.Add(1) > 1 {
			panic(http.ErrAbortHandler) // ends the connection, or the stream
		}
	})
	srv := serveTLS(t, mutual(a, a.pair("server")), r)
	for _, h2 := range []bool{false, true} {
		requests.Store(0)
		o := TLSOptions{InsecureSkipVerify: true, Cert: f.put("crt", certPEM), Key: f.put("key", keyPEM)}
		s := open(t, Config{URL: srv.URL, Options: Options{TLS: o, HTTP2: new(h2)}})
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
		err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
		sinktest.WantKinds(t, []error{err}, sinks.KindRetryable)
		if err != nil && strings.Contains(err.Error(), "certificate") {
			t.Errorf("HTTP/2 %v: %v", h2, err)
		}
	}
}

// countingServer counts the connections that were made, and those that took up an earlier session.
func countingServer(t *testing.T, conf *tls.Config, h http.Handler) (srv *httptest.Server, made func() int) {
	var n atomic.Int32
	srv = serveTLS(t, conf, h, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				n.Add(1)
			}
		}
	})
	return srv, func() int { return int(n.Load()) }
}

// A connection that finds HTTP/2 is used for it.
func TestNegotiationTakesOneConnection(t *testing.T) {
	srv, made := countingServer(t, nil, new(receiver))
	s := open(t, Config{URL: srv.URL, Options: Options{TLS: skipVerify}})
	for range 3 {
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	}
	if n := made(); n != 1 {
		t.Errorf("%d connections for HTTP/2", n)
	}
}

// A destination that chooses another protocol on its next connections gets it, and nothing fails.
func TestDestinationChangesItsProtocol(t *testing.T) {
	var mu sync.Mutex
	var protocol, proto string
	r := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		proto = req.Proto
	})
	pair := newAuthority(t, "peer").pair("server")
	conf := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol}}, nil
	}}
	srv, _ := countingServer(t, conf, r)
	s := open(t, Config{URL: srv.URL, Lanes: 4, Options: Options{TLS: skipVerify, Concurrency: ConcurrencyFixed}})
	for _, next := range []struct{ protocol, proto string }{
		{"http/1.1", "HTTP/1.1"}, {"h2", "HTTP/2.0"}, {"http/1.1", "HTTP/1.1"}, {"h2", "HTTP/2.0"},
	} {
		mu.Lock()
		protocol = next.protocol
		mu.Unlock()
		srv.CloseClientConnections()
		for range 3 { // the first of them may still find a connection that is about to end, of the protocol before
			var lanes sync.WaitGroup
			for range 4 {
				lanes.Go(func() {
					sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				})
			}
			lanes.Wait()
		}
		if direct := s.transport.Connections(time.Now()).Direct(); direct != (next.protocol == "http/1.1") {
			t.Errorf("with %s, what goes without net/http is %v", next.protocol, direct)
		}
		mu.Lock()
		if proto != next.proto {
			t.Errorf("with %s the last request came over %s", next.protocol, proto)
		}
		mu.Unlock()
	}
}

// Further connections take up the session of the first one, which spares both sides most of the handshake.
func TestSessionsAreResumed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			var resumed atomic.Int32
			r := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.TLS.DidResume {
					resumed.Add(1)
				}
				w.Header().Set("Connection", "close")
			})
			srv, made := countingServer(t, &tls.Config{MaxVersion: version}, r)
			s := open(t, Config{URL: srv.URL, Options: Options{TLS: skipVerify, HTTP2: new(h2)}})
			for range 3 {
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
			}
			if n, all := int(resumed.Load()), made(); n != all-1 || all < 2 {
				t.Errorf("HTTP/2 %v, %s: %d of %d connections have resumed a session", h2, tls.VersionName(version), n, all)
			}
		}
	}
}

// Where both sides have no protocol in common, the reason says so.
func TestNoProtocolInCommon(t *testing.T) {
	pair := newAuthority(t, "peer").pair("server")
	srv := serveTLS(t, nil, new(receiver), func(s *httptest.Server) {
		s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"other"}}, nil
		}}
	})
	for _, h2 := range []bool{false, true} {
		s := open(t, Config{URL: srv.URL, Options: Options{TLS: skipVerify, HTTP2: new(h2)}})
		err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
		if kind, _ := sinks.Classify(err); !kind.Unavailable() || !strings.Contains(err.Error(), "speaks neither of the HTTP versions offered, check http2") {
			t.Errorf("HTTP/2 %v: the outcome is %v: %v", h2, kind, err)
		}
	}
}

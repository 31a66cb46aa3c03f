package webhook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

var skipVerify = TLSOptions{InsecureSkipVerify: true}

func TestHTTP2IsNegotiated(t *testing.T) {
	var proto atomic.Value
	srv := serveTLS(t, nil, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { proto.Store(req.Proto) }))
	old := serveTLS(t, nil, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { proto.Store(req.Proto) }),
		func(s *httptest.Server) { s.EnableHTTP2 = false })
	plain := serve(t, func(w http.ResponseWriter, req *http.Request) { proto.Store(req.Proto) })
	for _, c := range []struct {
		url  string
		o    *bool
		want string
	}{
		{srv.URL, nil, "HTTP/2.0"}, {srv.URL, new(true), "HTTP/2.0"}, {srv.URL, new(false), "HTTP/1.1"},
		{old.URL, nil, "HTTP/1.1"}, {plain.URL, nil, "HTTP/1.1"}, {plain.URL, new(true), "HTTP/1.1"},
	} {
		s := open(t, Config{URL: c.url, Options: Options{TLS: skipVerify, HTTP2: c.o}})
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
		if got := proto.Load(); got != c.want {
			t.Errorf("%s with http2 %v: %v, want %s", c.url, c.o, got, c.want)
		}
	}
}

// All lanes share a connection, or as many as the receiver's limit of streams makes necessary. Some more are made and
// dropped at once, because net/http does not see when a stream becomes free.
func TestHTTP2Connections(t *testing.T) {
	const lanes = 8
	for _, streams := range []int{100, 4, 1} {
		var conns, mostConns, busy, most, asked atomic.Int32
		met := make(chan struct{})
		meet := sync.OnceFunc(func() { close(met) })
		srv := serveTLS(t, nil, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			n := busy.Add(1)
			raise(&most, n)
			if n == 2 {
				meet()
			}
			if asked.Add(1) > 1 { // after the first one of all, two lanes meet
				select {
				case <-met:
				case <-req.Context().Done():
				}
			}
			time.Sleep(time.Millisecond) // as one who works
			busy.Add(-1)
		}), func(s *httptest.Server) {
			s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
			s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
				switch st {
				case http.StateNew:
					raise(&mostConns, conns.Add(1))
				case http.StateClosed:
					conns.Add(-1)
				}
			}
		})
		s := open(t, Config{URL: srv.URL, Lanes: lanes, Options: Options{TLS: skipVerify}})
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
		var wg sync.WaitGroup
		for range lanes {
			wg.Go(func() {
				for range 50 {
					sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
				}
			})
		}
		wg.Wait()
		if n := int(mostConns.Load()); streams >= lanes && n != 1 || n > 3*lanes {
			t.Errorf("%d streams per connection: %d connections at once", streams, n)
		}
		if n := int(most.Load()); n > lanes {
			t.Errorf("%d streams per connection: %d requests at once, want up to %d", streams, n, lanes)
		}
		eventually(t, "a small number of connections", func() bool { return int(conns.Load()) <= lanes/streams+2 })
	}
}

// raise makes *to at least n.
func raise(to *atomic.Int32, n int32) {
	for old := to.Load(); n > old && !to.CompareAndSwap(old, n); old = to.Load() {
	}
}

func TestHTTP2Outcomes(t *testing.T) {
	for name, c := range map[string]struct {
		peer    *h2Peer
		want    []sinks.Kind
		reason  string // of the first that is not accepted
		conns   int
		payload int
	}{
		"fine": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool { c.ok(s); return true }},
			[]sinks.Kind{sinks.KindAccepted, sinks.KindAccepted}, "", 1, 1},
		"a refused stream is tried again": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			if n%2 == 0 {
				c.reset(s, codeRefused)
			} else {
				c.ok(s)
			}
			return true
		}}, []sinks.Kind{sinks.KindAccepted, sinks.KindAccepted}, "", 1, 1},
		"streams refused for ever": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool { c.reset(s, codeRefused); return true }},
			[]sinks.Kind{sinks.KindUnavailable}, "no answer within 1s", 1, 1},
		"shut down before the request was seen": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			if c.n == 0 {
				c.goAway(0, codeNone, "")
				return false
			}
			c.ok(s)
			return true
		}}, []sinks.Kind{sinks.KindAccepted, sinks.KindAccepted}, "", 2, 1},
		"shut down after an answer": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			c.ok(s)
			c.goAway(s, codeNone, "")
			return true
		}}, []sinks.Kind{sinks.KindAccepted, sinks.KindAccepted, sinks.KindAccepted}, "", 3, 1},
		"shut down while the request was worked on": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			c.goAway(s, codeNone, "")
			return false
		}}, []sinks.Kind{sinks.KindRetryable}, "the connection broke", 1, 1},
		"told to calm down": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			c.goAway(s, codeCalm, "POST /hook?token=secret"+strings.Repeat("x", 4000))
			return false
		}}, []sinks.Kind{sinks.KindUnavailable}, "ENHANCE_YOUR_CALM", 1, 1},
		"a stream told to calm down": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool { c.reset(s, codeCalm); return true }},
			[]sinks.Kind{sinks.KindUnavailable}, "ENHANCE_YOUR_CALM", 1, 1},
		"reset": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool { c.reset(s, codeInternal); return true }},
			[]sinks.Kind{sinks.KindRetryable}, "INTERNAL_ERROR", 1, 1},
		"reset behind an answer": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			_ = c.frame(frameHeaders, flagEndHeaders, s, 0x88)
			c.reset(s, codeInternal)
			return true
		}}, []sinks.Kind{sinks.KindAccepted, sinks.KindAccepted}, "", 1, 1},
		"never an answer": {&h2Peer{onHeaders: func(*h2Conn, int, uint32) bool { return true }},
			[]sinks.Kind{sinks.KindUnavailable}, "no answer within 1s", 1, 1},
		"never reads": {&h2Peer{deaf: true, onHeaders: func(*h2Conn, int, uint32) bool { return true }},
			[]sinks.Kind{sinks.KindUnavailable}, "no answer within 1s", 1, 20 << 20},
		"no room for the body": {&h2Peer{onHeaders: func(*h2Conn, int, uint32) bool { return true }},
			[]sinks.Kind{sinks.KindUnavailable}, "no answer within 1s", 1, 20 << 20},
		"endless headers": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			_ = c.frame(frameHeaders, 0, s, 0x88)
			for c.frame(frameContinuation, 0, s, []byte(strings.Repeat("\x00\x01a\x01b", 3000))...) == nil {
			}
			return false
		}}, []sinks.Kind{sinks.KindRetryable}, "has a form or size that cannot be used", 1, 1},
		"endless informational answers": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			for c.frame(frameHeaders, flagEndHeaders, s, 0x08, 3, '1', '0', '3') == nil { // :status 103
			}
			return false
		}}, []sinks.Kind{sinks.KindRetryable}, "header list too large", 1, 1},
		"endless body": {&h2Peer{onHeaders: func(c *h2Conn, n int, s uint32) bool {
			_ = c.frame(frameHeaders, flagEndHeaders, s, 0x88)
			for range 1000 { // It ignores our bound.
				if c.frame(frameData, 0, s, make([]byte, 16<<10)...) != nil {
					return false
				}
			}
			return true
		}}, []sinks.Kind{sinks.KindAccepted}, "", 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.peer.start(t)
			s := open(t, Config{URL: c.peer.url + "/hook?token=secret", Timeout: time.Second, Options: Options{TLS: skipVerify}})
			d := sinktest.NewDelivery("a", strings.Repeat("1", c.payload))
			ctx, cancel := context.WithTimeout(t.Context(), sinktest.Patience)
			defer cancel()
			for _, want := range c.want {
				err := sinktest.Deliver(ctx, s, d)[0]
				sinktest.WantKinds(t, []error{err}, want)
				if err != nil && (!strings.Contains(err.Error(), c.reason) || strings.Contains(err.Error(), "secret") || len(err.Error()) > 500) {
					t.Errorf("the reason is %v, want %q in it and no secret", err, c.reason)
				}
			}
			if ctx.Err() != nil {
				t.Errorf("not the timeout of 1s ended it, but the test after %s", sinktest.Patience)
			}
			// net/http may dial once more than it needs, and use a connection again that is about to end.
			if n := int(c.peer.conns.Load()); n < min(c.conns, 2) || n > c.conns+1 {
				t.Errorf("%d connections, want about %d", n, c.conns)
			}
		})
	}
}

// A peer that is gone without a word is found out by pings, and the next attempt gets another connection.
func TestHTTP2DeadConnection(t *testing.T) {
	peer := &h2Peer{mute: true, onHeaders: func(c *h2Conn, n int, s uint32) bool {
		if n == 0 || c.n > 0 {
			c.ok(s)
		}
		return true
	}}
	peer.start(t)
	s := open(t, Config{URL: peer.url, Timeout: 10 * time.Second, Options: Options{TLS: skipVerify}})
	pings := s.transport.Connections(time.Now()).HTTP2
	if pings.SendPingTimeout == 0 || pings.SendPingTimeout+pings.PingTimeout > DefaultTimeout || pings.WriteByteTimeout == 0 {
		t.Errorf("pings are sent after %v and lost after %v", pings.SendPingTimeout, pings.PingTimeout)
	}
	pings.SendPingTimeout, pings.PingTimeout = 200*time.Millisecond, 200*time.Millisecond
	out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
	sinktest.WantKinds(t, out, sinks.KindAccepted)
	out = sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
	sinktest.WantKinds(t, out, sinks.KindUnavailable)
	if !strings.Contains(out[0].Error(), "answers no ping") {
		t.Errorf("the reason is %v", out[0])
	}
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	if n := peer.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// One message that is cancelled leaves the others of its connection alone.
func TestHTTP2CancelOne(t *testing.T) {
	arrived, answer := make(chan struct{}, 2), make(chan struct{})
	srv := serveTLS(t, nil, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		arrived <- struct{}{}
		select {
		case <-answer:
		case <-req.Context().Done():
		}
	}))
	s := open(t, Config{URL: srv.URL, Options: Options{TLS: skipVerify}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		sinktest.WantKinds(t, sinktest.Deliver(ctx, s, sinktest.NewDelivery("a", "1")), sinks.KindRetryable)
	})
	<-arrived
	wg.Go(func() {
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "2")), sinks.KindAccepted)
	})
	<-arrived
	cancel()
	close(answer)
	wg.Wait()
}

// A connection that is stuck in a request ends with the sink: it is not idle, and nobody would come back to it.
func TestHTTP2CloseEndsStuckConnections(t *testing.T) {
	peer := &h2Peer{deaf: true, wake: make(chan struct{}), ended: make(chan struct{})}
	peer.start(t)
	s := open(t, Config{URL: peer.url, Timeout: 300 * time.Millisecond, Options: Options{TLS: skipVerify}})
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", strings.Repeat("1", 20<<20))), sinks.KindUnavailable)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(peer.wake)
	select {
	case <-peer.ended:
	case <-time.After(5 * time.Second): // Well below the times of pings, after which net/http would end it.
		t.Error("the connection is still open")
	}
}

func TestHTTP2Conformance(t *testing.T) { conformOverTLS(t, true) }

func TestConformanceOverTLS(t *testing.T) { conformOverTLS(t, false) }

func conformOverTLS(t *testing.T, h2 bool) {
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		r := new(receiver)
		srv := serveTLS(t, &tls.Config{}, r)
		link := linktest.New(t, srv.Listener.Addr().String())
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				s, err := New(Config{URL: "https://" + link.Addr() + "/hook", Lanes: 4, Timeout: 10 * time.Second, Options: Options{TLS: skipVerify, HTTP2: &h2}})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: func() []sinktest.Received { return r.received(t) },
			Down:     link.Down, Hang: link.Hang, Up: link.Up,
		}
	})
}

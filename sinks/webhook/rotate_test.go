package webhook

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks/sinktest"
)

// mutualReceiver asks for client certificates and counts which come, and what becomes of connections.
type mutualReceiver struct {
	mu      sync.Mutex
	server  tls.Certificate
	clients []*authority
	serials map[int64]int         // requests by the serial number of the client certificate
	conns   map[net.Conn]struct{} // that are open
	srv     *httptest.Server
}

func newMutualReceiver(t *testing.T, a *authority) *mutualReceiver {
	r := &mutualReceiver{server: a.pair("server"), clients: []*authority{a}, serials: map[int64]int{}, conns: map[net.Conn]struct{}{}}
	conf := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		c := mutual(r.clients[0], r.server)
		for _, a := range r.clients[1:] {
			c.ClientCAs.AddCert(a.cert)
		}
		c.NextProtos = []string{"h2", "http/1.1"}
		return c, nil
	}}
	r.srv = serveTLS(t, conf, r, func(srv *httptest.Server) {
		srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
			r.mu.Lock()
			defer r.mu.Unlock()
			switch s {
			case http.StateNew:
				r.conns[c] = struct{}{}
			case http.StateClosed, http.StateHijacked:
				delete(r.conns, c)
			}
		}
	})
	return r
}

func (r *mutualReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serials[req.TLS.PeerCertificates[0].SerialNumber.Int64()]++
	w.WriteHeader(http.StatusNoContent)
}

// change makes the server present and accept something else on new connections.
func (r *mutualReceiver) change(server tls.Certificate, clients ...*authority) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server, r.clients = server, clients
}

func (r *mutualReceiver) count(serial int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serials[serial]
}

func (r *mutualReceiver) open() map[net.Conn]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := make(map[net.Conn]struct{}, len(r.conns))
	for c := range r.conns {
		conns[c] = struct{}{}
	}
	return conns
}

// Certificate, key and authorities are replaced while messages flow; not one of them fails.
func TestRotation(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := newAuthority(t, "old"), newAuthority(t, "next")
			f := newFiles(t)
			oldCert, oldKey := old.issue("client")
			o := TLSOptions{CA: f.put("ca", old.pem), Cert: f.put("crt", oldCert), Key: f.put("key", oldKey)}
			r := newMutualReceiver(t, old)
			var log logBuffer
			s := open(t, Config{URL: r.srv.URL, Lanes: 4, Options: Options{TLS: o, HTTP2: &h2}, Log: slog.New(slog.NewTextHandler(&log, nil))})
			stop := keepDelivering(t, s, 4)
			oldSerial := serialOf(t, oldCert, oldKey)
			eventually(t, "requests with the old certificate", func() bool { return r.count(oldSerial) > 20 })
			before := r.open()

			// Not at once, as tools do it: for a while certificate and key do not belong together.
			newCert, newKey := old.issue("client")
			f.put("crt", newCert)
			mismatched := r.count(oldSerial)
			eventually(t, "requests while the key is missing", func() bool { return r.count(oldSerial) > mismatched+20 })
			f.put("key", newKey)
			newSerial := serialOf(t, newCert, newKey)
			eventually(t, "requests with the new certificate", func() bool { return r.count(newSerial) > 20 })
			eventually(t, "the end of the old connections", func() bool {
				for c := range r.open() {
					if _, ok := before[c]; ok && !h2 {
						return false
					}
				}
				return true
			})

			// The receiver moves to another authority: first both are trusted, then it changes.
			f.put("ca", append(append([]byte(nil), old.pem...), next.pem...))
			eventually(t, "trust in both", func() bool { return strings.Count(log.String(), "settings have changed") == 2 })
			nextCert, nextKey := next.issue("client")
			r.change(next.pair("server"), old, next)
			f.put("crt", nextCert)
			f.put("key", nextKey)
			nextSerial := serialOf(t, nextCert, nextKey)
			eventually(t, "requests with the next authority's certificate", func() bool { return r.count(nextSerial) > 20 })
			stop()
			stale := r.count(oldSerial)
			sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
			if n := r.count(oldSerial); n != stale {
				t.Error("a request came over a connection with the first certificate")
			}
		})
	}
}

func serialOf(t testing.TB, cert, key []byte) int64 {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.Int64()
}

// keepDelivering delivers from n goroutines until stop is called. Every message has to be accepted.
func keepDelivering(t testing.TB, s *Sink, n int) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]; err != nil {
					t.Errorf("not accepted: %v", err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(sinktest.Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("within %v there was not: %s", sinktest.Patience, what)
		}
	}
}

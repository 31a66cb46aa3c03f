package pubsubsink

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// terminate puts TLS in front of the server, with the certificate of net/http's tests, and returns its address and its authority's file.
func (s *scene) terminate() (address, ca string) {
	s.t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certificate := certified.TLS.Certificates[0]
	certified.Close()
	ca = filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		s.t.Fatal(err)
	}
	var all sync.WaitGroup
	s.t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.pass(client) })
		}
	})
	return l.Addr().String(), ca
}

// pass copies bytes both ways until one side ends.
func (s *scene) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // either side may end it
		client.Close()
	})
	_, _ = io.Copy(server, client) // either side may end it
	server.Close()
	back.Wait()
}

// A server whose authority is named is trusted, and gets the token of the key; another one is not.
func TestTLS(t *testing.T) {
	s := newScene(t)
	address, ca := s.terminate()
	key := keyFile(t)
	at := func(options string) sinks.Sink {
		return s.to(sinks.Target{URL: "pubsub://project-1/orders", Options: fmt.Appendf(nil, `{"endpoint": "https://%s", "credentials": "file:%s"%s}`, address, key, options)})
	}
	sinktest.WantKinds(t, s.deliver(at(`, "tls": {"ca": "`+ca+`"}`), batchOf(1)...), sinks.KindAccepted)
	sinktest.WantText(t, s.deliver(at(""), batchOf(1)...)[0], sinks.KindMisconfigured, "certificate")
	sinktest.WantText(t, s.deliver(at(`, "tls": {"ca": "`+ca+`", "server_name": "other.example"}`), batchOf(1)...)[0], sinks.KindMisconfigured, "other.example")
}

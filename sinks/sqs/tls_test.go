package sqssink

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A server whose authority is named is trusted, another one is not.
func TestTLS(t *testing.T) {
	s := newScene(t, "orders")
	secured := httptest.NewTLSServer(s.Config.Handler)
	defer secured.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(more string) sinks.Target {
		target := s.target("orders", more)
		target.Options = []byte(strings.Replace(string(target.Options), "http://"+s.link.Addr(), secured.URL, 1))
		return target
	}
	sinktest.WantKinds(t, s.deliver(s.to(at(`, "tls": {"ca": "`+ca+`"}`)), batchOf(1)...), sinks.KindAccepted)
	sinktest.WantText(t, s.deliver(s.to(at("")), batchOf(1)...)[0], sinks.KindMisconfigured, "certificate")
	sinktest.WantText(t, s.deliver(s.to(at(`, "tls": {"ca": "`+ca+`", "server_name": "other.example"}`)), batchOf(1)...)[0], sinks.KindMisconfigured, "other.example")
}

package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestHeaders(t *testing.T) {
	r := new(receiver)
	host := serve(t, r.ServeHTTP).Listener.Addr().String()
	t.Setenv("POSTRIDER_TEST_SECRET", sampleSecret)
	s := open(t, Config{URL: "http://joe:p%40ss@" + host + "/hook?x=1", Version: "1.2.3", Options: Options{Secrets: []string{"env:POSTRIDER_TEST_SECRET"}}})
	d := sinktest.NewDelivery("orders.created", "<xml/>")
	d.Key = "a b\r\nHost: evil"
	d.Headers = []byte(`{"Content-Type":"text/xml","X-A":"1"}`)
	before := time.Now().Unix()
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
	h := r.received(t)[0].Headers
	if ts, err := strconv.ParseInt(h["webhook-timestamp"], 10, 64); err != nil || ts < before || ts > time.Now().Unix() {
		t.Errorf("webhook-timestamp is %q, want the time of the attempt in unix seconds", h["webhook-timestamp"])
	}
	for name, want := range map[string]string{
		"content-type":  "text/xml",
		"user-agent":    "postrider/1.2.3",
		"authorization": "Basic am9lOnBAc3M=",
		"webhook-id":    d.MessageID,
		"postrider-key": "a%20b%0D%0AHost:%20evil",
		"x-a":           "1",
	} {
		if h[name] != want {
			t.Errorf("%s is %q, want %q", name, h[name], want)
		}
	}
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	r := new(receiver)
	host := serve(t, r.ServeHTTP).Listener.Addr().String()
	s := open(t, Config{URL: "http://joe:pw@" + host})
	for headers, reason := range map[string]string{
		`{"Host":"h"}`:                  `header "Host" is reserved`,
		`{"content-length":"1"}`:        "reserved",
		`{"Transfer-Encoding":"x"}`:     "reserved",
		`{"Connection":"close"}`:        "reserved",
		`{"Webhook-Signature":"v1,x"}`:  "reserved",
		`{"postrider-topic":"x"}`:       "reserved",
		`{"Authorization":"Bearer tk"}`: "reserved",
		`{"a b":"c"}`:                   "can be sent",
		`{"a":"b\r\nc: d"}`:             "control character",
		`[]`:                            "flat JSON object",
	} {
		d := sinktest.NewDelivery("a", "1")
		d.Headers = []byte(headers)
		out := sinktest.Deliver(t.Context(), s, d)
		sinktest.WantKinds(t, out, sinks.KindPermanent)
		if !strings.Contains(out[0].Error(), reason) {
			t.Errorf("%s: the reason is %q, want %q in it", headers, out[0], reason)
		}
	}
	if n := len(r.received(t)); n != 0 {
		t.Errorf("%d requests arrived, want none", n)
	}
}

func TestOwnAuthorizationIsSentIfTheURLHasNone(t *testing.T) {
	r := new(receiver)
	s := open(t, Config{URL: serve(t, r.ServeHTTP).URL})
	d := sinktest.NewDelivery("a", "1")
	d.Headers = []byte(`{"authorization":"Bearer tk"}`)
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
	if got := r.received(t)[0].Headers["authorization"]; got != "Bearer tk" {
		t.Errorf("authorization arrived as %q", got)
	}
}

func TestNoAnswer(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	slow := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		select {
		case <-hang:
		case <-req.Context().Done():
		}
	})
	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	})
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct {
		url    string
		kind   sinks.Kind
		reason string
	}{
		"refused":       {"http://" + freeAddr(t), sinks.KindUnavailable, "connection refused"},
		"no such name":  {"http://nowhere.invalid", sinks.KindUnavailable, "connect to http://nowhere.invalid"},
		"untrusted":     {secure.URL, sinks.KindMisconfigured, "certificate"},
		"no TLS there":  {strings.Replace(slow.URL, "http:", "https:", 1), sinks.KindMisconfigured, "connect to https://"},
		"timeout":       {slow.URL, sinks.KindUnavailable, "no answer within 200ms"},
		"broken midway": {broken.URL, sinks.KindRetryable, "the connection broke"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{URL: c.url + "/secret?token=secret", Timeout: 5 * time.Second}
			if name == "timeout" {
				cfg.Timeout = 200 * time.Millisecond
			}
			out := sinktest.Deliver(t.Context(), open(t, cfg), sinktest.NewDelivery("a", "1"))
			sinktest.WantKinds(t, out, c.kind)
			if msg := out[0].Error(); !strings.Contains(msg, c.reason) || strings.Contains(msg, "secret") {
				t.Errorf("the reason is %q, want %q in it, and no secret", msg, c.reason)
			}
		})
	}
}

// freeAddr returns an address on which nobody listens.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestCancelled(t *testing.T) {
	arrived := make(chan struct{}, 1)
	srv := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		arrived <- struct{}{}
		<-req.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	out := sinktest.Deliver(ctx, open(t, Config{URL: srv.URL}), sinktest.NewDelivery("a", "1"))
	sinktest.WantKinds(t, out, sinks.KindRetryable)
	if !errors.Is(out[0], context.Canceled) {
		t.Errorf("outcome %v does not say that the context was cancelled", out[0])
	}
}

func TestTLS(t *testing.T) {
	r := new(receiver)
	srv := httptest.NewTLSServer(r)
	t.Cleanup(srv.Close)
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s := open(t, Config{URL: srv.URL, TLS: &tls.Config{RootCAs: roots}})
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
}

func TestRestOfTheBatchSharesAnOutage(t *testing.T) {
	var requests atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); w.WriteHeader(503) })
	batch := []sinks.Delivery{sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("a", "2"), sinktest.NewDelivery("a", "3")}
	out := sinktest.Deliver(t.Context(), open(t, Config{URL: srv.URL}), batch...)
	sinktest.WantKinds(t, out, sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable)
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests to a destination that is down, want 1", n)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "scheme"},
		{Config{URL: "ftp://host"}, `"ftp": it must be http or https`},
		{Config{URL: "https:///path"}, "names no host"},
		{Config{URL: "https://host:port/"}, "invalid port"},
		{Config{URL: "https://joe:sec/ret@host/"}, "percent-encoded"},
		{Config{URL: "https://host/%zz?sec=ret"}, "invalid URL escape"},
		{Config{URL: "https://host", Lanes: -1}, "lanes is -1"},
		{Config{URL: "https://host", Timeout: -1}, "timeout is -1ns"},
	} {
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "ret@") || strings.Contains(err.Error(), ":sec") {
			t.Errorf("New(%+v): %v, want %q", c.cfg, err, c.want)
		}
	}
}

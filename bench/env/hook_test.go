package env

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/postrider/postrider/bench/system"
)

// hookOverTLS looks whether each URL speaks what it is for, all are counted together, and the first header is remembered.
func hookOverTLS(t *testing.T, h *Hook) {
	if err := h.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		url   string
		major int
	}{{h.URL, 1}, {h.TLS, 1}, {h.HTTP2, 2}} {
		if major := postProto(t, c.url+"/", int64(i+1)); major != c.major {
			t.Errorf("%s speaks HTTP/%d, want %d", c.url, major, c.major)
		}
	}
	if n, err := h.Count(t.Context(), ""); n != 3 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
	header, err := h.Header(t.Context())
	if err != nil || header.Get("X-N") != "1" {
		t.Errorf("the first request has %v, %v", header, err)
	}
	if err := h.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if header, err := h.Header(t.Context()); header != nil || err != nil {
		t.Errorf("before the first request: %v, %v", header, err)
	}
}

func postProto(t *testing.T, url string, n int64) int {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url, bytes.NewReader(system.Payload(n)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-N", string(rune('0'+n)))
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.ProtoMajor
}

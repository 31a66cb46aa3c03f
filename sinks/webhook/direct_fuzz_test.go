package webhook

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

// FuzzDirectRequest: what goes out over plain TCP is read as what net/http writes.
func FuzzDirectRequest(f *testing.F) {
	f.Add("/hook?a=b", "host:8080", "X-A", "b", "body")
	f.Add("/Content-Length:0", "[::1]", "X-A", " é\t", "")
	f.Add("", "HOST", "A", "a\r\nb: c", "x")
	f.Fuzz(func(t *testing.T, path, host, name, value, body string) {
		target, err := url.Parse("http://" + host + path)
		if err != nil || target.Host == "" || !isName(name) {
			return
		}
		d := http1.New(target, "postrider/test", 1, nil)
		if d == nil {
			return
		}
		r := &request{body: []byte(body)}
		r.set(http.CanonicalHeaderKey(name), value)
		s := Sink{url: target}
		var text strings.Builder
		if err := s.request(t.Context(), r.header([]string{"postrider/test"}), r.body).Write(&text); err != nil {
			return
		}
		if err := r.encode(d.Start); err != nil {
			if !strings.ContainsAny(value, "\r\n") {
				t.Fatalf("%q: %q: %v", name, value, err)
			}
			return
		}
		got, want := readSummary(t, string(r.wire)+body), readSummary(t, text.String())
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as %+v, net/http's as %+v", r.wire, got, want)
		}
	})
}

// isName says whether a message may have a header of that name.
func isName(name string) bool {
	other := func(r rune) bool { return r != '-' && (r < 'A' || 'Z' < r && r < 'a' || r > 'z') }
	return name != "" && !strings.ContainsFunc(name, other) && !isReserved(strings.ToLower(name))
}

type requestSummary struct {
	failed      bool
	method, uri string
	host, body  string
	header      http.Header
	length      int64
	left        string
}

func readSummary(t *testing.T, text string) requestSummary {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(text))
	req, err := http.ReadRequest(r)
	if err != nil {
		return requestSummary{failed: true}
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	left, _ := io.ReadAll(r)
	return requestSummary{false, req.Method, req.RequestURI, req.Host, string(body), req.Header, req.ContentLength, string(left)}
}

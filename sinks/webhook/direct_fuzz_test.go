package webhook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzDirectAnswer: whatever a receiver says, direct makes of it what http.Transport makes of it.
func FuzzDirectAnswer(f *testing.F) {
	for _, s := range []string{
		"", "H", "HTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.1 204 No Content\r\n\r\nx", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\na: b\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\na: " + strings.Repeat("x", maxHeaderLength) + "\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	target := &url.URL{Scheme: "http", Host: "host", Path: "/hook"}
	f.Fuzz(func(t *testing.T, answer []byte) {
		dial := func(context.Context, string, string) (net.Conn, error) { return peerSaying(answer), nil }
		r := &request{body: []byte("body")}
		p := newDirect(target, "postrider/test", 1, dial)
		got := summary(p.roundTrip(t.Context(), r, time.Now().Add(time.Minute)))
		if len(p.slots) != 0 || len(p.idle) > 1 {
			t.Fatalf("%q leaves %d requests under way and %d idle connections", answer, len(p.slots), len(p.idle))
		}
		p.CloseIdleConnections()

		peer := &http.Transport{DialContext: dial, MaxResponseHeaderBytes: maxHeaderLength, DisableCompression: true}
		defer peer.CloseIdleConnections()
		s := Sink{url: target}
		want := summary(peer.RoundTrip(s.request(t.Context(), http.Header{}, r.body)))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %+v, with net/http %+v", answer, got, want)
		}
	})
}

// peerSaying is a connection whose other end reads a request, says something and closes.
func peerSaying(text []byte) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		if req, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = theirs.Write(text)
		}
	}()
	return ours
}

type answerSummary struct {
	failed, bodyFailed bool
	status             int
	header, trailer    http.Header
	body               string
}

func summary(res *http.Response, err error) answerSummary {
	if err != nil {
		return answerSummary{failed: true}
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return answerSummary{status: res.StatusCode, header: res.Header}
	}
	body, err := io.ReadAll(res.Body)
	return answerSummary{false, err != nil, res.StatusCode, res.Header, res.Trailer, string(body)}
}

// FuzzDirectRequest: what direct writes is read as what net/http writes.
func FuzzDirectRequest(f *testing.F) {
	f.Add("/hook?a=b", "host:8080", "X-A", "b", "body")
	f.Add("/Content-Length:0", "[::1]", "X-A", " é\t", "")
	f.Add("", "HOST", "A", "a\r\nb: c", "x")
	f.Fuzz(func(t *testing.T, path, host, name, value, body string) {
		target, err := url.Parse("http://" + host + path)
		if err != nil || target.Host == "" || !isName(name) {
			return
		}
		d := newDirect(target, "postrider/test", 1, nil)
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
		if err := r.encode(d.start); err != nil {
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

package http1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzAnswer: whatever a receiver says, a Client makes of it what http.Transport makes of it.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"", "H", "HTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.1 204 No Content\r\n\r\nx", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\na: b\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\na: " + strings.Repeat("x", MaxHeader) + "\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	target := &url.URL{Scheme: "http", Host: "host", Path: "/hook"}
	f.Fuzz(func(t *testing.T, answer []byte) {
		dial := func(context.Context, string, string) (net.Conn, error) { return peerSaying(answer), nil }
		p := New(target, "postrider/test", 1, dial)
		head := append(slices.Clone(p.Start), "Content-Length: 4\r\n\r\n"...)
		got := summary(p.RoundTrip(t.Context(), Request{&head, []byte("body")}, time.Now().Add(time.Minute)))
		if len(p.slots) != 0 || len(p.idle) > 1 {
			t.Fatalf("%q leaves %d requests under way and %d idle connections", answer, len(p.slots), len(p.idle))
		}
		p.CloseIdleConnections()

		peer := &http.Transport{DialContext: dial, MaxResponseHeaderBytes: MaxHeader, DisableCompression: true}
		defer peer.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.String(), strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		want := summary(peer.RoundTrip(req))
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

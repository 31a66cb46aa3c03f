package webhook

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/sinks"
)

// FuzzAnswer reads any bytes as a receiver's response: its outcome is that of the status, its delay is bounded, and its reason is a
// short line of text.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\ndown\x00\r\nfor a while", "HTTP/1.0 410 Gone\r\n\r\n",
		"HTTP/1.1 301 M\r\nLocation: https://u:geheim@h/secret/path?token=geheim#geheim\r\n\r\n", "HTTP/1.1 302 F\r\nLocation: ?a\r\n\r\n",
		"HTTP/1.1 307 T\r\nLocation: //secret/path\r\n\r\n", "HTTP/1.1 429 x\r\nRetry-After: Fri, 02 Jan 2099 03:04:00 GMT\r\n\r\n",
		"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9", "HTTP/1.1 400 x\r\nContent-Length: 900\r\n\r\n\xff\xfe\u2028",
		"HTTP/1.1 999 x\r\n\r\n", "HTTP/1.1 302 F\r\nLocation: ht tp://%zz\r\n\r\n", "HTTP/1.1 302 F\r\nLocation: mailto:a@b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	s, err := New(Config{URL: "https://user:geheim@host:8443/secret/path?token=geheim"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, response []byte) {
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(response)), &http.Request{Method: http.MethodPost, URL: s.url})
		if err != nil {
			return
		}
		err = s.answered(&request{}, res)
		kind, after := sinks.Classify(err)
		want := s.kindOf(res.StatusCode)
		if c := deliveryControl(res.Header); want != sinks.KindAccepted && c != 0 {
			want = map[control]sinks.Kind{controlAbort: sinks.KindPermanent, controlDisable: sinks.KindGone}[c]
		}
		if kind != want || after < 0 || after > DefaultRetryAfterMax {
			t.Fatalf("%d is %v after %v: %v", res.StatusCode, kind, after, err)
		}
		if err == nil {
			return
		}
		reason := err.Error()
		if !utf8.ValidString(reason) || strings.ContainsAny(reason, "\r\n\x00\u2028\x1b") || len(reason) > 3*maxSnippet+2*len(res.Header.Get("Location"))*3+200 {
			t.Fatalf("the reason is no short line of text: %q", reason)
		}
	})
}

// FuzzRedirect: a redirect to our own address, or from there, shows none of its secrets.
func FuzzRedirect(f *testing.F) {
	for _, suffix := range []string{"", "/", "/login", "?a=b", "#x", "/../..", "%zz", "\\", "/./x"} {
		f.Add(suffix, 301)
	}
	const own = "https://user:geheim@host:8443/geheim/path?token=geheim"
	s, err := New(Config{URL: own})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, suffix string, status int) {
		if strings.Contains(suffix, "geheim") {
			return
		}
		for _, location := range []string{own + suffix, strings.TrimSuffix(own, "?token=geheim") + suffix, "path" + suffix, "/geheim/path" + suffix, suffix} {
			res := &http.Response{StatusCode: status, Header: http.Header{"Location": {location}}, Body: http.NoBody}
			if err := s.answered(&request{}, res); err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("a redirect to %q: %v", location, err)
			}
		}
	})
}

// FuzzRetryAfter: anything is a delay between nothing and the longest that is granted.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "7200", "99999999999999999999", "-5", "+5", "1.5", "soon", " 5", "Fri, 02 Jan 2026 03:04:35 GMT",
		"Friday, 02-Jan-26 03:04:35 GMT", "Fri Jan  2 03:04:35 2026", "Fri, 02 Jan 9999 03:04:35 GMT", "2147483648"} {
		f.Add(s, int64(1767323045))
	}
	f.Fuzz(func(t *testing.T, header string, now int64) {
		const most = DefaultRetryAfterMax
		at := time.Unix(now, 0)
		d := retryAfter(header, at, most)
		if d < 0 || d > most || d != 0 && d != most && retryAfter(header, at.Add(-most), most) < d {
			t.Errorf("Retry-After: %q at %s is %v", header, at, d)
		}
	})
}

// FuzzNew: an address is refused by an error that shows nothing of it but scheme and host, or posts to the host that it names.
func FuzzNew(f *testing.F) {
	for _, s := range []string{"https://host/hook", "http://u:geheim@[::1]:80/?q", "https://geheim@h", "ftp://h", "https://", "http:geheim", "https://u:ge%heim@h/",
		"https://h:port/", "https://[::1%25lo]/", "http://h\r\nX: y/", "https://u:geheim/x@h", "//h", "https://u@h@geheim"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := New(Config{URL: raw})
		if err != nil {
			if u, bad := url.Parse(raw); bad == nil && u.User != nil && len(u.User.String()) > 5 && strings.Contains(err.Error(), u.User.String()+"@") {
				t.Fatalf("%q: the error shows the user info: %v", raw, err)
			}
			return
		}
		defer s.Close()
		req := s.request(t.Context(), http.Header{}, []byte("x"))
		var wire bytes.Buffer
		if err := req.Write(&wire); err != nil {
			return // the transport refuses it the same way
		}
		got, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil || got.Method != http.MethodPost || len(got.Header)-len(got.Header["Content-Length"])-len(got.Header["User-Agent"]) > 0 {
			t.Fatalf("%q asks %+v, %v", raw, got, err)
		}
		if s.url.User != nil || strings.Contains(s.name, "@") {
			t.Fatalf("%q: the user info stays in %s", raw, s.name)
		}
	})
}

// FuzzHeaders: what goes out with a message is a request that a receiver reads as it was meant, or nothing goes out.
func FuzzHeaders(f *testing.F) {
	f.Add("orders.created", "customer-1", []byte(`{"X-A":"b"}`), "1-2-3")
	f.Add("a\r\nb", "é\x00", []byte(`{"Host":"evil"}`), "")
	f.Add("", "", []byte(`{"webhook-id":"1"}`), "x")
	f.Add("", "", []byte(`{"content-type":"text/plain","a":"\t é "}`), "x")
	s, err := New(Config{URL: "https://u:p@host/hook"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, topic, key string, headers []byte, id string) {
		d := &sinks.Delivery{Message: &sinks.Message{Topic: topic, Key: key, Headers: headers, MessageID: id}, Subscription: "s", Attempt: 2}
		r, err := s.messageRequest(d)
		if err != nil {
			return
		}
		s.stamp(r, time.Unix(5, 0))
		var wire bytes.Buffer
		if err := s.request(t.Context(), r.header(s.userAgent), []byte("body")).Write(&wire); err != nil {
			t.Fatalf("%q cannot be sent: %v", headers, err)
		}
		req, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil {
			t.Fatalf("%q cannot be read: %v", headers, err)
		}
		for name, want := range map[string]string{"Postrider-Topic": topic, "Postrider-Key": key, "Postrider-Attempt": "2"} {
			if got, err := url.PathUnescape(req.Header.Get(name)); err != nil || got != want || len(req.Header[name]) > 1 {
				t.Errorf("%s is %q (%q), %v, want %q", name, got, req.Header[name], err, want)
			}
		}
		own, err := d.HeaderMap()
		if err != nil || len(req.Header) > len(own)+20 || req.Host != "host" || req.ContentLength != 4 {
			t.Errorf("%q arrives as %q to %s, %d bytes, %v", headers, req.Header, req.Host, req.ContentLength, err)
		}
		for name, want := range own {
			if got := req.Header.Get(name); got != strings.Trim(want, " \t") {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	})
}

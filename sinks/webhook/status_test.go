package webhook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// statuses is a server that answers each request with the status in its path, as it stands on the wire: net/http's own server
// would not let every status through.
func statuses(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answerStatuses(conn) })
		}
	})
	return l.Addr().String()
}

func answerStatuses(conn net.Conn) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		status := req.Header.Get("Postrider-Key")
		answer := "HTTP/1.1 " + status + " \r\n"
		if status[0] != '1' {
			answer += "Content-Length: 0\r\n"
		} else if status == "101" {
			answer += "Connection: upgrade\r\nUpgrade: silence\r\n"
		} else { // an answer has to follow
			answer += "\r\nHTTP/1.1 204 \r\n"
		}
		if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
			return
		}
	}
}

func TestEveryStatus(t *testing.T) {
	const (
		ok          = sinks.KindAccepted
		retryable   = sinks.KindRetryable
		permanent   = sinks.KindPermanent
		unavailable = sinks.KindUnavailable
		gone        = sinks.KindGone
	)
	defaults := map[int]sinks.Kind{400: permanent, 413: permanent, 415: permanent, 422: permanent,
		410: gone, 429: unavailable, 502: unavailable, 503: unavailable, 504: unavailable}
	host := statuses(t)
	for name, c := range map[string]struct {
		options Options
		changed map[int]sinks.Kind
	}{
		"by default": {},
		"changed": {
			Options{Dead: []int{401, 403, 404, 410, 500}, Retry: []int{400, 413, 415, 422, 429, 503}},
			map[int]sinks.Kind{401: permanent, 403: permanent, 404: permanent, 410: permanent, 500: permanent,
				400: retryable, 413: retryable, 415: retryable, 422: retryable, 429: retryable, 503: retryable},
		},
	} {
		s := open(t, Config{URL: "http://" + host, Timeout: time.Hour, Options: c.options}) // Nothing waits for a body that does not come.
		for status := 100; status <= 599; status++ {
			want := retryable
			switch k, changed := c.changed[status]; {
			case changed:
				want = k
			case status/100 == 2, status/100 == 1 && status != 101:
				want = ok
			case defaults[status] != 0:
				want = defaults[status]
			}
			d := sinktest.NewDelivery("a", "1")
			d.Key = strconv.Itoa(status)
			ctx, cancel := context.WithTimeout(t.Context(), sinktest.Patience)
			err := sinktest.Deliver(ctx, s, d)[0]
			cancel()
			if kind, _ := sinks.Classify(err); kind != want {
				t.Errorf("%s: %d is %v (%v), want %v", name, status, kind, err, want)
			}
			if err != nil && !strings.Contains(err.Error(), " answered "+d.Key) {
				t.Errorf("%s: the reason does not name the status %d: %v", name, status, err)
			}
		}
	}
	for _, status := range []int{0, 99, 600, 999, -1} {
		if kind := kindOf(status); kind != retryable {
			t.Errorf("%d is %v, want retryable", status, kind)
		}
	}
}

func TestStatusesThatCannotBeChanged(t *testing.T) {
	for text, want := range map[string]string{
		`{"dead":[299]}`:               `dead 299: must be a status from 300 to 599`,
		`{"retry":[200]}`:              `retry 200: must be a status from 300 to 599`,
		`{"retry":[600]}`:              `retry 600: must be a status from 300 to 599`,
		`{"dead":[404],"retry":[404]}`: `dead and retry both hold 404`,
		`{"dead":[503]}`:               `dead 503: this status says that the destination is busy or down`,
		`{"dead":[429]}`:               `dead 429: this status says`,
		`{"retry_after_max":"-1s"}`:    `retry_after_max -1s: must be above zero`,
		`{"receipts":-1}`:              `receipts -1: must be from 0 to 65536 bytes`,
		`{"receipts":65537}`:           `receipts 65537: must be from 0`,
		`{"concurrency":"much"}`:       `concurrency "much": must be adaptive or fixed`,
		`{"rate":-1}`:                  `rate -1: must be from 0.000001 to 1000000 requests per second`,
		`{"rate":1e9}`:                 `rate 1e+09: must be from`,
		`{"rate":1e-9}`:                `rate 1e-09: must be from`,
		`{"burst":2}`:                  `burst has no meaning without rate`,
		`{"rate":1,"burst":-2}`:        `burst -2: must be from 1`,
	} {
		if _, err := ParseOptions([]byte(text)); err == nil || !strings.Contains(err.Error(), "options: "+want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"120":                           2 * time.Minute,
		"7200":                          time.Hour,
		"2147483647":                    time.Hour,
		"2147483648":                    time.Hour,
		"9223372036854775808":           time.Hour,
		"99999999999999999999":          time.Hour,
		strings.Repeat("9", 400):        time.Hour,
		strings.Repeat("0", 400) + "7":  7 * time.Second,
		" 7 ":                           7 * time.Second,
		"-5":                            0,
		"-99999999999999999999":         0,
		"+5":                            0,
		"0x10":                          0,
		"1e9":                           0,
		"99999999999999999999 seconds":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT": time.Hour,
		"Sat, 01 Jan 0001 00:00:00 GMT": 0,
		"1.5":                           0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"Fri, 02 Jan 2099 03:04:00 GMT": time.Hour,
	} {
		if got := retryAfter(header, now, time.Hour); got != want {
			t.Errorf("Retry-After: %q is %v, want %v", header, got, want)
		}
	}
}

func TestRetryAfterReachesTheOutcome(t *testing.T) {
	var status int
	var header, date string
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", header)
		if date != "" {
			w.Header().Set("Date", date)
		}
		w.WriteHeader(status)
	})
	s := open(t, Config{URL: srv.URL, Options: Options{RetryAfterMax: sinks.Duration(90 * time.Second)}})
	for _, c := range []struct {
		header, date string
		want         time.Duration
	}{
		{"7", "", 7 * time.Second},
		{"100", "", 90 * time.Second},
		// By the destination's clock, which may be wrong.
		{"Fri, 02 Jan 2026 03:04:35 GMT", "Fri, 02 Jan 2026 03:04:05 GMT", 30 * time.Second},
		{"Fri, 02 Jan 2026 03:04:35 GMT", "Fri, 02 Jan 2026 03:04:36 GMT", 0},
	} {
		header, date = c.header, c.date
		for _, status = range []int{429, 503, 500, 409} {
			if _, after := sinks.Classify(sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]); after != c.want {
				t.Errorf("%d with Retry-After: %s at %s asks for %v, want %v", status, header, date, after, c.want)
			}
		}
	}
}

func TestReason(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string // HOST is the receiver's address
	}{
		"body": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such\x00 shop\r\n\r\n "+strings.Repeat("é", 300), 404)
		}, "http://HOST answered 404 Not Found: no such. shop " + strings.Repeat("é", 91)},
		"redirect to https": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://u:pw@other.example/secret/path/?token=t")
			w.WriteHeader(301)
		}, "http://HOST answered 301 Moved Permanently, a redirect to https://other.example/…/, which is not followed: change the URL"},
		"relative redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/login")
			w.WriteHeader(302)
		}, "http://HOST answered 302 Found, a redirect to http://HOST/login, which is not followed: change the URL"},
		"redirect beside us": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "login")
			w.WriteHeader(302)
		}, "http://HOST answered 302 Found, a redirect to http://HOST/…/login, which is not followed: change the URL"},
	} {
		srv := serve(t, c.handler)
		host := srv.Listener.Addr().String()
		s := open(t, Config{URL: "http://user:pw@" + host + "/secret/path?token=t"})
		err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
		if want := strings.ReplaceAll(c.want, "HOST", host); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, want)
		}
	}
}

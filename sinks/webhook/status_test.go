package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestStatus(t *testing.T) {
	const (
		ok          = sinks.KindAccepted
		retryable   = sinks.KindRetryable
		permanent   = sinks.KindPermanent
		unavailable = sinks.KindUnavailable
	)
	want := map[int]sinks.Kind{
		200: ok, 201: ok, 202: ok, 204: ok, 299: ok,
		300: retryable, 301: retryable, 302: retryable, 304: retryable, 307: retryable, 308: retryable,
		400: permanent, 401: retryable, 403: retryable, 404: retryable, 405: retryable, 406: retryable, 408: retryable,
		409: retryable, 410: sinks.KindGone, 413: permanent, 415: permanent, 418: retryable, 422: permanent, 425: retryable,
		429: unavailable,
		500: retryable, 501: retryable, 502: unavailable, 503: unavailable, 504: unavailable, 505: retryable, 599: retryable,
		600: retryable, 999: retryable,
	}
	var status int
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	s := open(t, Config{URL: srv.URL})
	for status = range want {
		err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
		if kind, _ := sinks.Classify(err); kind != want[status] {
			t.Errorf("%d is %v (%v), want %v", status, kind, err, want[status])
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("the reason does not name the status %d: %v", status, err)
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
		"99999999999999999999":          0,
		"-5":                            0,
		"1.5":                           0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"Fri, 02 Jan 2099 03:04:00 GMT": time.Hour,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After: %q is %v, want %v", header, got, want)
		}
	}
}

func TestRetryAfterReachesTheOutcome(t *testing.T) {
	var status int
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
	})
	s := open(t, Config{URL: srv.URL})
	for _, status = range []int{429, 503, 500, 409} {
		_, after := sinks.Classify(sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0])
		if after != 7*time.Second {
			t.Errorf("%d with Retry-After: 7 asks for %v", status, after)
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

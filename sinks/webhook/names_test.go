package webhook

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/callback"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// Names that some receivers take for others are no names of a message's own, nor of a subscription's.
func TestHeadersInDisguise(t *testing.T) {
	srv := serve(t, (&receiver{}).ServeHTTP)
	s := open(t, Config{URL: srv.URL, Options: Options{Headers: map[string]string{"X-Tenant": "shop"}}})
	for name, want := range map[string]string{
		"Transfer_Encoding": "reserved", "content_LENGTH": "reserved", "Proxy": "reserved", "proxy_authorization": "reserved", "Keep_Alive": "reserved",
		"Postrider_Topic": "reserved", "webhook_id": "reserved", "ce_type": "reserved", "HTTP2_Settings": "reserved", "Connection": "reserved",
		"User_Agent": "reserved", "X_Tenant": "reserved", "Content_Type": "take it for Content-Type",
	} {
		d := sinktest.NewDelivery("a", "1")
		d.Headers = fmt.Appendf(nil, `{%q: "x"}`, name)
		err := sinktest.Deliver(t.Context(), s, d)[0]
		if kind, _ := sinks.Classify(err); kind != sinks.KindPermanent || !strings.Contains(fmt.Sprint(err), want) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: outcome %v, want it dead, as %s", name, err, want)
		}
		if err := (Options{Headers: map[string]string{name: "x"}}).Validate(); err == nil && name != "X_Tenant" {
			t.Errorf("%s is taken as a header of the subscription", name)
		}
	}
	both := sinktest.NewDelivery("a", "1")
	both.Headers = []byte(`{"X-User": "1", "x_user": "2"}`)
	if kind, _ := sinks.Classify(sinktest.Deliver(t.Context(), s, both)[0]); kind != sinks.KindPermanent {
		t.Error("two names that receivers may take for one are sent")
	}
	fine := sinktest.NewDelivery("a", "1")
	fine.Headers = []byte(`{"trace_id": "1", "X-Proxy": "2"}`)
	if err := sinktest.Deliver(t.Context(), s, fine)[0]; err != nil {
		t.Errorf("an ordinary underscore: %v", err)
	}
}

// Whatever a URL holds, the request's first line has three words.
func TestURLsAreEncodedOrRefused(t *testing.T) {
	for raw, want := range map[string]string{
		"http://h/a?b=c d":      "/a?b=c%20d",
		"http://h/a b?c":        "/a%20b?c",
		"http://h/ä?ö=\"<>|{}":  "/%C3%A4?%C3%B6=%22%3C%3E%7C%7B%7D",
		"http://h/a?b=%zz%20%2": "/a?b=%25zz%20%252",
		"http://h/%20?a=%41+b":  "/%20?a=%41+b",
		"http://h?x":            "/?x",
	} {
		s, err := New(Config{URL: raw})
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		if got := s.url.RequestURI(); got != want {
			t.Errorf("%q asks for %q, want %q", raw, got, want)
		}
		if start := string(s.transport.Connections(time.Now()).HTTP1.Start); strings.Count(start[:strings.IndexByte(start, '\r')], " ") != 2 {
			t.Errorf("%q: the request begins %q", raw, start)
		}
		s.Close()
	}
	for _, raw := range []string{
		"http://a b/", "http://a%20b/", "http://h\x01/", "http://h/\n", "http://h:0/", "http://h:99999/", "http://h:/", "http://a\"b/", "http://a<b>/", "http://a'b/",
		"http://a,b/", "http://a;b/", "http://a$b/", "http://h\u202e/", "http://u\x7f@h/", "http://[::1%25a b]/", "http://:80/", "http://(h)/",
	} {
		if s, err := New(Config{URL: raw}); err == nil {
			t.Errorf("%q is taken, for host %q", raw, s.url.Host)
			s.Close()
		}
		if err := (callback.Config{BaseURL: raw}).Validate(); err == nil {
			t.Errorf("%q is taken for callbacks", raw)
		}
		if err := (Options{Proxy: raw}).Validate(); err == nil {
			t.Errorf("%q is taken for a proxy", raw)
		}
	}
}

// Reasons hold nothing that turns or hides what stands beside it.
func TestReasonsShowWhatTheyHold(t *testing.T) {
	var r secret.Redactor
	err := sinks.RedactOutcome(&r, sinks.Gone(fmt.Errorf("a\u202eb\u2066c\x1b[31md\x00e\u200bf")))
	if kind, _ := sinks.Classify(err); kind != sinks.KindGone || err.Error() != "a.b.c.[31md.e.f" {
		t.Errorf("outcome %q", err)
	}
}

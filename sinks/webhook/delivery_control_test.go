package webhook

import (
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestDeliveryControl(t *testing.T) {
	const (
		ok          = sinks.KindAccepted
		retryable   = sinks.KindRetryable
		permanent   = sinks.KindPermanent
		unavailable = sinks.KindUnavailable
		gone        = sinks.KindGone
	)
	for _, c := range []struct {
		status int
		header []string
		first  sinks.Kind
		second sinks.Kind // the next message, to which the answer is 204
		reason string
	}{
		{500, nil, retryable, ok, "answered 500 Internal Server Error"},
		{500, []string{"abort-message"}, permanent, ok, "answered 500 Internal Server Error, with webhook-delivery: abort-message"},
		{503, []string{" Abort-Message "}, permanent, ok, "abort-message"},
		{302, []string{"abort-message"}, permanent, ok, "abort-message"},
		{410, []string{"abort-message"}, permanent, ok, "abort-message"},
		{404, []string{"disable"}, gone, ok, "answered 404 Not Found, with webhook-delivery: disable"},
		{500, []string{"abort-message, disable"}, gone, ok, "disable"},
		{500, []string{"disable", "abort-message"}, gone, ok, "disable"},
		{503, []string{"later", ""}, unavailable, ok, "503"},
		{200, []string{"abort-message"}, ok, ok, ""},
		{200, []string{"disable"}, ok, gone, ""},
		{202, []string{"x", "disable"}, ok, gone, ""},
	} {
		answers := 0
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if answers++; answers > 1 {
				w.WriteHeader(204)
				return
			}
			w.Header()["Webhook-Delivery"] = c.header
			w.WriteHeader(c.status)
		})
		s := open(t, Config{URL: srv.URL})
		out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
		out = append(out, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "2"))...)
		sinktest.WantKinds(t, out, c.first, c.second)
		if out[0] != nil && !strings.Contains(out[0].Error(), c.reason) {
			t.Errorf("%d with %q: the reason is %q, want %q in it", c.status, c.header, out[0], c.reason)
		}
		if c.second == gone && answers != 1 {
			t.Errorf("%d with %q: %d requests, want none after it", c.status, c.header, answers-1)
		}
	}
}

package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// answering accepts with a status and headers, and keeps the headers of requests.
type answering struct {
	mu     sync.Mutex
	status int
	header map[string]string
	got    []http.Header
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, r.Header.Clone())
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	fmt.Fprint(w, "taken")
}

// deliver has one message answered and returns the request's headers.
func (a *answering) deliver(t *testing.T, s sinks.Sink, d sinks.Delivery, status int, header map[string]string) (http.Header, error) {
	t.Helper()
	a.status, a.header, a.got = status, header, nil
	err := sinktest.Deliver(t.Context(), s, d)[0]
	if len(a.got) != 1 {
		t.Fatalf("%d requests came, want 1", len(a.got))
	}
	return a.got[0], err
}

func wantLeased(t *testing.T, what string, err error, lease time.Duration, token string) {
	t.Helper()
	out, ok := errors.AsType[*sinks.OutcomeError](err)
	if !ok || out.Kind != sinks.KindLeased || out.After != lease || strconv.FormatInt(out.Token, 10) != token {
		t.Errorf("%s: the outcome is %+v, want leased for %v with token %s", what, err, lease, token)
	}
}

func Test202MeansLeasedOnlyIfAskedFor(t *testing.T) {
	a := new(answering)
	url := serve(t, a.ServeHTTP).URL
	var receipts []Receipt
	keep := func(r Receipt) { receipts = append(receipts, r) }
	plain := open(t, Config{URL: url, Options: Options{Answers: Answers{Receipts: 10}}, Receipt: keep})
	h, err := a.deliver(t, plain, sinktest.NewDelivery("a", "1"), 202, map[string]string{"Postrider-Lease": "60"})
	if err != nil || len(receipts) != 1 {
		t.Errorf("202 without async: %v, receipts %v", err, receipts)
	}
	for _, name := range []string{"Postrider-Id", "Postrider-Token", "Postrider-Callback"} {
		if h[name] != nil {
			t.Errorf("without async there is %s: %v", name, h[name])
		}
	}
	for _, format := range []string{FormatRaw, FormatBinary, FormatStructured} {
		receipts = nil
		async := open(t, Config{URL: url, Options: Options{Async: true, Format: format, Answers: Answers{Receipts: 10}}, Receipt: keep})
		d := sinktest.NewDelivery("a", "1")
		h, err = a.deliver(t, async, d, 202, nil)
		wantLeased(t, format, err, DefaultAsyncLease, h.Get("Postrider-Token"))
		if h.Get("Postrider-Id") != strconv.FormatInt(d.ID, 10) || h["Postrider-Callback"] != nil {
			t.Errorf("%s: headers %v", format, h)
		}
		if len(receipts) != 0 {
			t.Errorf("%s: a receipt of what is not delivered: %v", format, receipts)
		}
		if _, err := a.deliver(t, async, d, 200, nil); err != nil || len(receipts) != 1 {
			t.Errorf("%s, 200: %v, receipts %v", format, err, receipts)
		}
		_, err = a.deliver(t, async, d, 422, nil)
		sinktest.WantKinds(t, []error{err}, sinks.KindPermanent)
	}
}

func TestEveryAttemptHasItsToken(t *testing.T) {
	a := new(answering)
	calls := 0
	s := open(t, Config{URL: serve(t, a.ServeHTTP).URL, Options: Options{Async: true}, CallbackURL: func(subscription string, id, token int64) string {
		calls++
		return fmt.Sprintf("https://h/%s/%d/%d", subscription, id, token)
	}})
	d := sinktest.NewDelivery("a", "1")
	seen := map[int64]bool{}
	for attempt := range 20 {
		h, err := a.deliver(t, s, d, 202, nil)
		wantLeased(t, "attempt", err, DefaultAsyncLease, h.Get("Postrider-Token"))
		token, _ := strconv.ParseInt(h.Get("Postrider-Token"), 10, 64)
		if token <= 0 || seen[token] {
			t.Errorf("token %d, after %v: want another positive one for each attempt", token, seen)
		}
		seen[token] = true
		if want := fmt.Sprintf("https://h/conformance/%d/%d", d.ID, token); h.Get("Postrider-Callback") != want || calls != attempt+1 {
			t.Errorf("callback %q after %d calls, want %q", h.Get("Postrider-Callback"), calls, want)
		}
	}
}

// Tokens come from the whole range of positive numbers: each of 63 bits is as often set as not, whatever the other bits are.
func TestTokensCannotBeGuessed(t *testing.T) {
	const n = 20_000
	var set [64]int
	var both [64][64]int
	seen := make(map[int64]bool, n)
	for range n {
		token := newToken()
		if token <= 0 || seen[token] {
			t.Fatalf("token %d came before, or is not positive", token)
		}
		seen[token] = true
		for i := range 63 {
			if token>>i&1 == 0 {
				continue
			}
			set[i]++
			for j := range i {
				both[i][j] += int(token >> j & 1)
			}
		}
	}
	for i := range 63 {
		if set[i] < n*45/100 || set[i] > n*55/100 { // 14 standard deviations
			t.Errorf("bit %d is set in %d of %d tokens", i, set[i], n)
		}
		for j := range i {
			if both[i][j] < n*20/100 || both[i][j] > n*30/100 {
				t.Errorf("bits %d and %d are set together in %d of %d tokens", i, j, both[i][j], n)
			}
		}
	}
}

func TestReceiverChoosesTheLease(t *testing.T) {
	a := new(answering)
	s := open(t, Config{URL: serve(t, a.ServeHTTP).URL, Options: Options{Async: true, AsyncLease: sinks.Duration(time.Minute)}})
	for header, want := range map[string]time.Duration{
		"": time.Minute, "1": time.Second, "90": 90 * time.Second, "604800": 7 * 24 * time.Hour,
		"0": time.Minute, "604801": time.Minute, "-5": time.Minute, "1.5": time.Minute, "2m": time.Minute, "99999999999999999999": time.Minute, "5, 6": time.Minute,
	} {
		h, err := a.deliver(t, s, sinktest.NewDelivery("a", "1"), 202, map[string]string{"Postrider-Lease": header})
		wantLeased(t, "lease "+header, err, want, h.Get("Postrider-Token"))
	}
}

// The message that is answered is leased, and the next one ends the subscription.
func TestDisableWithAccepted(t *testing.T) {
	a := new(answering)
	s := open(t, Config{URL: serve(t, a.ServeHTTP).URL, Options: Options{Async: true}})
	h, err := a.deliver(t, s, sinktest.NewDelivery("a", "1"), 202, map[string]string{"Webhook-Delivery": "disable"})
	wantLeased(t, "disable", err, DefaultAsyncLease, h.Get("Postrider-Token"))
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "2")), sinks.KindGone)
}

func TestAsyncOptions(t *testing.T) {
	for text, want := range map[string]string{
		`{"async":true,"async_lease":"999ms"}`:     "async_lease 999ms: must be from 1s to 168h",
		`{"async":true,"async_lease":"168h0m1s"}`:  "async_lease 168h0m1s: must be from 1s to 168h",
		`{"async":true,"async_lease":"-1s"}`:       "async_lease -1s: must be from",
		`{"async_lease":"5m"}`:                     "async_lease has no meaning without async",
		`{"async":true,"format":"batch"}`:          "async is true and format is batch: a callback is about one message",
		`{"async":true,"format":"ndjson"}`:         "async is true and format is ndjson",
		`{"async":"yes"}`:                          "async",
		`{"headers":{"Postrider-Callback":"x"}}`:   `headers["Postrider-Callback"] is reserved`,
		`{"headers":{"postrider-token":"env:X"}}`:  `headers["postrider-token"] is reserved`,
		`{"async":true,"headers":{"a":"b","c":1}}`: "headers",
	} {
		if _, err := ParseOptions([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{`{"async":true}`, `{"async":true,"async_lease":"1s","format":"structured"}`, `{"async":true,"async_lease":"168h"}`, `{"async":false,"format":"batch"}`} {
		if _, err := ParseOptions([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A message's own headers cannot name another attempt either.
func TestMessagesCannotSetCallbackHeaders(t *testing.T) {
	s := open(t, Config{URL: "http://127.0.0.1:1", Options: Options{Async: true}})
	d := sinktest.NewDelivery("a", "1")
	d.Headers = []byte(`{"Postrider-Callback":"https://evil"}`)
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindPermanent)
}

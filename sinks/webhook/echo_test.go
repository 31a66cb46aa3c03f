package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

// What a destination echoes of our secrets is taken out of every text that is kept, in whatever form and wherever it is cut.
func TestEchoedSecretsDoNotShow(t *testing.T) {
	const token, password, key = `tok/en+"<geheim>`, "p@ss geheim word", "geheim-key-1"
	const path = "T0123456789abcdefgheim"
	t.Setenv("ECHO_BASIC", "shop:"+password)
	t.Setenv("ECHO_TOKEN", token)
	t.Setenv("ECHO_KEY", key)
	var answer func(w http.ResponseWriter, r *http.Request)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { answer(w, r) })
	var receipts []string
	s := open(t, Config{URL: srv.URL + "/services/" + path + "?sig=geheim-sig", Receipt: func(r Receipt) { receipts = append(receipts, string(r.Body)) }, Options: Options{
		Basic: "env:ECHO_BASIC", Headers: map[string]string{"X-Token": "env:ECHO_TOKEN", "X-Api-Key": "env:ECHO_KEY"}, Answers: Answers{Receipts: 100}}})
	quoted, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	echoes := map[string]string{
		"basic":    "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+password)),
		"password": password, "token": token, "key": key, "path": "Cannot POST /services/" + path, "query": "?sig=geheim-sig",
		"JSON": string(quoted), "HTML": html.EscapeString(token), "query form": url.QueryEscape(token), "path form": url.PathEscape(token),
		"lower form": strings.ToLower(url.QueryEscape("tok/en+")) + strings.ToLower(url.QueryEscape(`"<`)) + "geheim" + strings.ToLower(url.QueryEscape(">")),
		"hex":        hex.EncodeToString([]byte(key)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(token)),
	}
	hasSecret := func(text string) bool {
		for _, bad := range []string{"geheim", "eheim", password[:4], path[:6], base64.StdEncoding.EncodeToString([]byte("shop:p")), hex.EncodeToString([]byte("geheim")),
			"tok/", "tok%2", base64.RawURLEncoding.EncodeToString([]byte("tok/en"))} {
			if strings.Contains(text, bad) {
				return true
			}
		}
		return false
	}
	for name, echo := range echoes {
		// At every place around the point where the text is cut.
		for pad := 0; pad < maxSnippet+2; pad += 7 {
			answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				fmt.Fprint(w, strings.Repeat(".", pad)+echo)
			}
			err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
			if kind, _ := sinks.Classify(err); kind != sinks.KindRetryable {
				t.Fatalf("%s: outcome %v", name, err)
			}
			if hasSecret(err.Error()) {
				t.Errorf("%s after %d bytes: %v", name, pad, err)
			}
		}
		answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(".", 90)+echo) }
		if err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]; err != nil {
			t.Fatal(err)
		}
		if text := receipts[len(receipts)-1]; hasSecret(text) || !strings.HasPrefix(text, "....") || len(text) > 100 {
			t.Errorf("%s: the receipt is %q", name, text)
		}
		answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://other.example/"+url.PathEscape(echo))
			w.WriteHeader(http.StatusFound)
		}
		if err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]; hasSecret(err.Error()) {
			t.Errorf("%s in a redirect: %v", name, err)
		}
		answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone); fmt.Fprint(w, echo) }
		other := open(t, Config{URL: srv.URL + "/services/" + path + "?sig=geheim-sig", Options: s.options})
		err := sinktest.Deliver(t.Context(), other, sinktest.NewDelivery("a", "1"))[0]
		if kind, _ := sinks.Classify(err); kind != sinks.KindGone || hasSecret(err.Error()) {
			t.Errorf("%s with 410: %v", name, err)
		}
	}
}

// The results for the events of a batch have reasons of their own.
func TestEchoedSecretsDoNotShowInResults(t *testing.T) {
	t.Setenv("ECHO_TOKEN", "geheim-token")
	most := len(strings.TrimSuffix(transport.Shorten(strings.Repeat(".", 10_000)), "…")) // of a reason
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var events []struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"results":[{"id":%q,"status":500,"reason":%q}]}`, events[0].ID, strings.Repeat(".", most-13)+r.Header.Get("Authorization"))
	})
	s := open(t, Config{URL: srv.URL, Options: Options{Format: FormatBatch, Bearer: "env:ECHO_TOKEN"}})
	err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
	if err == nil || !strings.Contains(err.Error(), "answered 500") || strings.Contains(err.Error(), "gehe") {
		t.Errorf("outcome %v", err)
	}
}

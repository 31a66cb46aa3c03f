package webhook

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// The body of an accepting answer is kept if it is JSON and not too long; whatever it is, the message is delivered.
func TestResultsOfAnswers(t *testing.T) {
	var status int
	var body string
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	t.Setenv("SECRET_OF_RESULTS", "a-secret-of-ours")
	var receipts []Receipt
	s := open(t, Config{URL: srv.URL, Options: Options{Bearer: "env:SECRET_OF_RESULTS", Answers: Answers{KeepResult: true, Receipts: 10}}, Receipt: func(r Receipt) { receipts = append(receipts, r) }})
	plain := open(t, Config{URL: srv.URL})
	long := `"` + strings.Repeat("x", sinks.MaxResult-2) + `"`
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, `{"id": 7, "to": "Zoë"}`, `{"id": 7, "to": "Zoë"}`}, {201, "3", "3"}, {200, "null", "null"}, {200, long, long}, {200, long + " ", ""}, {200, "ok", ""}, {200, "", ""}, {204, "", ""},
		{200, "\"\xff\"", ""}, {200, `{"a": 1} {"b": 2}`, ""}, {500, `{"id": 7}`, ""}, {200, `{"echo": "a-secret-of-ours"}`, `{"echo": "[secret]"}`},
	} {
		status, body, receipts = c.status, c.body, nil
		out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
		if got := string(sinks.ResultOf(out[0])); got != c.want {
			t.Errorf("%d %.40q: result %.40q, want %.40q", c.status, c.body, got, c.want)
		}
		if kind, _ := sinks.Classify(out[0]); (kind == sinks.KindAccepted) != (c.status < 300) {
			t.Errorf("%d %.40q: %v", c.status, c.body, out[0])
		}
		if c.status == 200 && (len(receipts) != 1 || len(receipts[0].Body) != min(len(c.body), 10)) && !strings.Contains(c.body, "secret") {
			t.Errorf("%d %.40q: receipts %+v beside the result", c.status, c.body, receipts)
		}
		if out := sinktest.Deliver(t.Context(), plain, sinktest.NewDelivery("a", "1")); c.status == 200 && out[0] != nil {
			t.Errorf("a result that nobody asked for: %v", out[0])
		}
	}
	if err := (Options{Answers: Answers{KeepResult: true}, Format: FormatBatch}).Validate(); err == nil || !strings.Contains(err.Error(), "keep_result is true and format is batch") {
		t.Errorf("with batches: %v", err)
	}
}

package webhook

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestReceipts(t *testing.T) {
	var status int
	var body string
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	var got []Receipt
	s := open(t, Config{URL: srv.URL, Options: Options{Answers: Answers{Receipts: 10}}, Receipt: func(r Receipt) { got = append(got, r) }})
	none := open(t, Config{URL: srv.URL, Receipt: func(Receipt) { t.Error("a receipt that nobody asked for") }})
	batch := open(t, Config{URL: srv.URL, Options: Options{Answers: Answers{Receipts: 10}, Format: FormatBatch}, Receipt: func(r Receipt) { got = append(got, r) }})
	for _, c := range []struct {
		status     int
		body, want string
	}{{200, "ok", "ok"}, {201, strings.Repeat("x", 100_000), "xxxxxxxxxx"}, {204, "", ""}, {500, "no", "-"}, {202, "later", "later"}} {
		status, body, got = c.status, c.body, nil
		d := sinktest.NewDelivery("a", "1")
		d.Attempt, d.Message.MessageID = 3, d.MessageID+" %"
		sinktest.Deliver(t.Context(), s, d)
		sinktest.Deliver(t.Context(), none, d)
		if c.want == "-" {
			if len(got) != 0 {
				t.Errorf("%d: receipt %+v of a message that is not delivered", status, got[0])
			}
			continue
		}
		if len(got) != 1 || got[0].MessageID != d.MessageID || got[0].Attempt != 3 || got[0].Status != c.status || string(got[0].Body) != c.want {
			t.Errorf("%d: receipts %+v, want one with %q", status, got, c.want)
		}
		if status == 200 && got[0].ContentType != "text/plain" {
			t.Errorf("content type %q", got[0].ContentType)
		}
	}
	status, body, got = 200, "all", nil
	out := sinktest.Deliver(t.Context(), batch, sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("a", "2"))
	sinktest.WantKinds(t, out, sinks.KindAccepted, sinks.KindAccepted)
	if len(got) != 1 || !strings.HasPrefix(got[0].MessageID, "batch_") || string(got[0].Body) != "all" || got[0].Attempt != 0 {
		t.Errorf("receipts of a batch: %+v", got)
	}
}

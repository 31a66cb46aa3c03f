package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// TestOneOwnersTroubleIsNobodyElses: a relay that cannot be asked keeps no worker from what is here, and settles of its jobs are to be repeated.
func TestOneOwnersTroubleIsNobodyElses(t *testing.T) {
	hub := pull.NewHub(func() bool { return true }, func(pull.Lost) {}, slog.New(slog.DiscardHandler))
	s, err := hub.Open("mail", pull.Setup{WorkerTTL: time.Minute, AttemptTimeout: time.Minute}, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.(sinks.Lessor).Serve(nil, func(int64, error) {})
	s.(sinks.Sender).Send(t.Context(), sinks.Delivery{Message: &sinks.Message{ID: 1, JSON: true, Payload: []byte("1")}, Subscription: "mail"}, func(error) {})
	h := New(hub, func(context.Context, ...string) *relay.Directory {
		return &relay.Directory{Me: "me", Key: []byte("key"), Places: map[string]relay.Place{"mail": {Scheme: "pull", Owner: "me"},
			"down": {Scheme: "pull", Owner: "down", Name: "down", URL: "http://127.0.0.1:1"}, "shy": {Scheme: "pull", Owner: "shy", Name: "shy"}}}
	})
	const who = `{"worker":"w","incarnation":"1",`
	call := func(verb, rest string) (int, string) {
		r := httptest.NewRequest("POST", "http://localhost/api/v1/jobs/"+verb, strings.NewReader(who+rest+"}"))
		r = r.WithContext(access.With(r.Context(), access.Identity{Role: access.Admin, Local: true}))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	status, text := call("take", `"from":[{"subscription":"down","max":1},{"subscription":"shy","max":1},{"subscription":"mail","max":1}],"wait":"20s"`)
	if status != 200 || !strings.Contains(text, `"subscription":"mail","id":1`) {
		t.Fatalf("a take is answered %d %s", status, text)
	}
	token := strings.Split(strings.Split(text, `"token":"`)[1], `"`)[0]
	item := func(name, token string) string {
		return fmt.Sprintf(`{"subscription":%q,"id":1,"token":%q,"outcome":"done"}`, name, token)
	}
	for _, c := range []struct {
		verb, rest string
		status     int
		want       string
	}{
		{"take", `"from":[{"subscription":"down","max":1}],"wait":"20s"`, 503, "owner_unreachable"},
		{"take", `"from":[{"subscription":"shy","max":1},{"subscription":"down","max":1}],"wait":"20s"`, 421, "not_owner"},
		{"take", `"from":[{"subscription":"down","max":1},{"subscription":"mail","max":1}]`, 503, "owner_unreachable"},
		{"settle", `"items":[` + item("down", "x") + "," + item("mail", token) + "," + item("shy", "x") + `]`, 200, `"answer":"moving"},{"subscription":"mail","id":1,"answer":"ok"},{"subscription":"shy","id":1,"answer":"moving"}`},
		{"settle", `"items":[` + item("down", "x") + `]`, 503, "owner_unreachable"},
		{"settle", `"items":[` + item("shy", "x") + `]`, 421, "not_owner"},
		{"settle", `"items":[` + item("down", "x") + `],"take":{"from":[{"subscription":"mail","max":1}]}`, 200, `"answer":"moving"`},
		{"settle", `"items":[` + item("mail", token) + "," + item("nobody", "x") + `]`, 404, "unknown_subscription"},
		{"beat", `"progress":[{"subscription":"down","id":1,"token":"x"}]`, 503, "moving"},
		{"beat", `"progress":[{"subscription":"mail","id":1,"token":"x"}]`, 200, `"lost":[]`},
	} {
		if status, text := call(c.verb, c.rest); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s, want %d and %s", c.verb, c.rest, status, text, c.status, c.want)
		}
	}
}

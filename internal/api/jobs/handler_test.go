package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks/pull"
)

func newHandler(t *testing.T) *Handler {
	t.Helper()
	hub := pull.NewHub(func() bool { return true }, func(pull.Lost) {}, slog.New(slog.DiscardHandler))
	s, err := hub.Open("mail", pull.Setup{WorkerTTL: time.Minute, AttemptTimeout: time.Minute}, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return New(hub, func(context.Context, ...string) *relay.Directory {
		return &relay.Directory{Me: "me", Key: []byte("key"), Places: map[string]relay.Place{"mail": {Scheme: "pull", Owner: "me"}}}
	})
}

func ask(h *Handler, verb, body string, change func(*http.Request)) (int, problem.Details, http.Header) {
	r := httptest.NewRequest("POST", "http://localhost/api/v1/jobs/"+verb, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r = r.WithContext(access.With(r.Context(), access.Identity{Role: access.Admin, Local: true}))
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var p problem.Details
	json.Unmarshal(w.Body.Bytes(), &p)
	return w.Code, p, w.Header()
}

// TestBadRequestsAreExplained: each error names the field, the value and what would be right.
func TestBadRequestsAreExplained(t *testing.T) {
	h := newHandler(t)
	const who = `"worker":"w","incarnation":"1"`
	for _, c := range []struct{ verb, body, want string }{
		{"take", ``, "is no JSON"},
		{"take", `[]`, "must be a JSON object"},
		{"take", `{` + who + `,"form":[]}`, `unknown key "form": known here: worker, incarnation, holding, from, wait; did you mean "from"?`},
		{"take", `{"incarnation":"1","from":[{"subscription":"mail","max":1}]}`, "worker: is missing: must be a name that stays the same"},
		{"take", `{"worker":"w","from":[{"subscription":"mail","max":1}]}`, "incarnation: is missing: must be a text that is another one each time"},
		{"take", `{"worker":"w","incarnation":"a b","from":[{"subscription":"mail","max":1}]}`, `incarnation "a b": must have no blanks`},
		{"take", `{"worker":"a\u0000b","incarnation":"1"}`, "must have at most 200 bytes, all of them printable"},
		{"take", `{` + who + `}`, "from: names 0 subscriptions: must be a list of 1 to 100"},
		{"take", `{` + who + `,"from":[{"subscription":"mail","max":0}]}`, "from[0].max 0: must be from 1 to 1000"},
		{"take", `{` + who + `,"from":[{"subscription":"mail","max":1001}]}`, "from[0].max 1001: must be from 1 to 1000"},
		{"take", `{` + who + `,"from":[{"max":1}]}`, "from[0].subscription: is missing"},
		{"take", `{` + who + `,"from":[{"subscription":"mail","max":"1"}]}`, "from[0].max: must be a whole number, not a text"},
		{"take", `{` + who + `,"from":[{"subscription":"mail","max":1}],"wait":"31s"}`, "wait 31s: must be from 0s to 30s"},
		{"take", `{` + who + `,"from":[{"subscription":"mail","max":1}],"wait":30}`, "wait: "},
		{"take", `{` + who + `,"from":[{"subscription":"mali","max":1}]}`, `did you mean "mail"?`},
		{"settle", `{` + who + `}`, "items: are missing"},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"token":"x","outcome":"ok"}]}`, `items[0].outcome "ok": must be done, retry, dead, snooze or release`},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"token":"x","outcome":"snooze"}]}`, "items[0].after: is missing: a snooze must say for how long"},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"token":"x","outcome":"done","after":"1s"}]}`, "items[0].after 1s: goes with the outcomes retry and snooze, not with done"},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"outcome":"done"}]}`, "items[0].token: is missing"},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"token":"x","outcome":"done","result":"` + strings.Repeat("x", 65<<10) + `"}]}`, "items[0].result: has 66562 bytes: must have at most 65536"},
		{"settle", `{` + who + `,"items":[{"subscription":"mail","id":1,"token":"x","outcome":"done"}],"take":{"from":[{"subscription":"mail","max":1}],"wait":"1h"}}`, "wait 1h0m0s: must be from 0s to 30s"},
		{"beat", `{` + who + `,"progress":[{"subscription":"mail","id":1,"token":"x","percent":101}]}`, "progress[0].percent 101: must be from 0 to 100"},
		{"beat", `{` + who + `,"progress":[{}]}`, "progress[0]: names no job"},
	} {
		status, p, header := ask(h, c.verb, c.body, nil)
		if status < 400 || status > 404 || p.Status != status || p.Code == "" || p.Title == "" || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(p.Detail, c.want) {
			t.Errorf("%s %.80s: %d %+v, want %q", c.verb, c.body, status, p, c.want)
		}
	}
}

// TestBrowsersAreKeptOut: what a page could make a browser send is refused before anything is looked at.
func TestBrowsersAreKeptOut(t *testing.T) {
	h := newHandler(t)
	body := `{"worker":"w","incarnation":"1","from":[{"subscription":"mail","max":1}]}`
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"as it is":        {nil, 200},
		"a form":          {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		"no type":         {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"GET":             {func(r *http.Request) { r.Method = "GET" }, 405},
		"preflight":       {func(r *http.Request) { r.Method = "OPTIONS" }, 405},
		"elsewhere":       {func(r *http.Request) { r.URL.Path = "/metrics" }, 404},
		"a page's origin": {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"its own origin":  {func(r *http.Request) { r.Header.Set("Origin", "http://localhost") }, 403},
	} {
		status, p, header := ask(h, "take", body, c.change)
		if status != c.want || status >= 400 && p.Code == "" {
			t.Errorf("%s: %d %+v, want %d", name, status, p, c.want)
		}
		for field := range header {
			if strings.HasPrefix(field, "Access-Control-") {
				t.Errorf("%s: the answer has %s", name, field)
			}
		}
	}
	if status, p, _ := ask(h, "take", strings.Repeat(" ", longestBody+1), nil); status != 413 || p.Code != "too_large" {
		t.Errorf("a body that is too large: %d %+v", status, p)
	}
}

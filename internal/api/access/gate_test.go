package access

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/api/problem"
)

const (
	viewerToken   = "viewer-0123456789abcdef"
	operatorToken = "operator-0123456789abcdef"
	workerToken   = "worker-0123456789abcdef"
)

// newGate makes a gate with a token of each of three roles; in front of a page that says who asks.
func newGate(t *testing.T, log *slog.Logger) (*Gate, http.Handler) {
	t.Helper()
	t.Setenv("VIEWER", viewerToken)
	t.Setenv("OPERATOR", operatorToken)
	t.Setenv("WORKER", workerToken)
	tokens, err := ParseTokens("grafana:viewer=env:VIEWER, ops:operator=env:OPERATOR,mailer:worker[mail sms]=env:WORKER")
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGate(tokens, log)
	if err != nil {
		t.Fatal(err)
	}
	return g, g.Wrap(sayWho)
}

var sayWho = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte(Of(r.Context()).Name))
})

func do(h http.Handler, method, target string, change func(*http.Request)) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTokensTellWhoAsks: a token is its holder's name and role; what is no token is nobody.
func TestTokensTellWhoAsks(t *testing.T) {
	_, h := newGate(t, slog.New(slog.DiscardHandler))
	for token, want := range map[string]string{viewerToken: "grafana", operatorToken: "ops", workerToken: "mailer"} {
		if res := do(h, "GET", "http://relay.internal/api/v1/status", bearer(token)); res.StatusCode != 200 || text(t, res) != want {
			t.Errorf("%s: %d", want, res.StatusCode)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"nothing":          nil,
		"another token":    bearer("somebody-elses-0123456789"),
		"the token's end":  bearer(viewerToken[1:]),
		"empty":            bearer(""),
		"basic":            func(r *http.Request) { r.SetBasicAuth("ops", operatorToken) },
		"made-up cookie":   func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName, Value: "ops:9999999999:AAAA"}) },
		"token as cookie":  func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName, Value: operatorToken}) },
		"token as query":   func(r *http.Request) { r.URL.RawQuery = "token=" + operatorToken },
		"reference itself": bearer("env:OPERATOR"),
	} {
		res := do(h, "GET", "http://relay.internal/api/v1/status", change)
		var p problem.Details
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil || res.StatusCode != 401 || p.Code != "unauthorized" || res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %+v, %v", name, res.StatusCode, p, err)
		}
	}
}

// TestRoles: who may do what.
func TestRoles(t *testing.T) {
	for role, want := range map[Role]map[Role]bool{
		Nobody:   {},
		Worker:   {Worker: true},
		Viewer:   {Viewer: true},
		Operator: {Viewer: true, Operator: true},
		Admin:    {Worker: true, Viewer: true, Operator: true, Admin: true},
	} {
		for _, need := range []Role{Nobody, Worker, Viewer, Operator, Admin} {
			if may := (Identity{Role: role}).May(need); may != want[need] {
				t.Errorf("%s may do what %s is needed for: %t", role, need, may)
			}
		}
	}
	mailer := Identity{Role: Worker, Subscriptions: []string{"mail"}}
	if !mailer.MayWork("mail") || mailer.MayWork("billing") || !(Identity{Role: Worker}).MayWork("billing") || (Identity{Role: Operator}).MayWork("mail") {
		t.Error("a worker's subscriptions do not count")
	}
}

// TestWithoutTokens: everybody is an admin, and then a name that others can make lead here is refused.
func TestWithoutTokens(t *testing.T) {
	g, err := NewGate(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := g.Wrap(sayWho)
	for host, want := range map[string]int{"localhost:8482": 200, "127.0.0.1:8482": 200, "[::1]:8482": 200, "127.9.9.9": 200,
		"evil.example:8482": 421, "localhost.evil.example": 421, "192.0.2.7": 421, "": 421} {
		if res := do(h, "GET", "/api/v1/status", func(r *http.Request) { r.Host = host }); res.StatusCode != want {
			t.Errorf("host %q: %d, want %d", host, res.StatusCode, want)
		}
	}
	if res := do(h, "GET", "http://localhost/login", nil); res.StatusCode != 303 || res.Header.Get("Location") != "/" {
		t.Errorf("there is nothing to log in to, and /login answers %d", res.StatusCode)
	}
}

// TestOtherOrigins: a page of somebody else's changes nothing, with tokens or without, cookie or not.
func TestOtherOrigins(t *testing.T) {
	open, err := NewGate(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g, closed := newGate(t, slog.New(slog.DiscardHandler))
	cookie := g.find(operatorToken).cookie(time.Now())
	for name, h := range map[string]http.Handler{"open": open.Wrap(sayWho), "closed": closed} {
		for from, want := range map[string]int{"http://localhost": 200, "https://evil.example": 403, "null": 403} {
			for _, path := range []string{"/api/v1/operations", "/subscriptions/a/pause"} {
				res := do(h, "POST", "http://localhost"+path, func(r *http.Request) {
					r.AddCookie(&http.Cookie{Name: cookieName, Value: cookie})
					r.Header.Set("Origin", from)
				})
				if res.StatusCode != want {
					t.Errorf("%s: POST %s from %s: %d, want %d", name, path, from, res.StatusCode, want)
				}
			}
		}
		if res := do(h, "POST", "http://localhost/logout", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); res.StatusCode != 403 {
			t.Errorf("%s: logged out from another site: %d", name, res.StatusCode)
		}
	}
}

// TestDeliveriesDoNotSteer: who may write subscriptions may not make the relay ask itself for more.
func TestDeliveriesDoNotSteer(t *testing.T) {
	g, err := NewGate(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	res := do(g.Wrap(sayWho), "POST", "http://127.0.0.1:8482/api/v1/subscriptions/mail/pause", func(r *http.Request) { r.Header.Set("webhook-id", "1") })
	if res.StatusCode != 403 {
		t.Errorf("a delivery is answered %d", res.StatusCode)
	}
}

// TestSessions: a person's token makes a cookie that proves it without holding it, for twelve hours, and until the token is another one.
func TestSessions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(operatorToken)
	g, err := NewGate([]Token{{Identity{Name: "ops", Role: Operator}, "file:" + path}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := g.Wrap(sayWho)
	html := func(r *http.Request) { r.Header.Set("Accept", "text/html") }
	if res := do(h, "GET", "http://relay/messages?topic=a%26b", html); res.StatusCode != 303 || res.Header.Get("Location") != "/login?next=%2Fmessages%3Ftopic%3Da%2526b" {
		t.Errorf("a page without a session: %d, to %s", res.StatusCode, res.Header.Get("Location"))
	}
	login := func(token, next string) *http.Response {
		body := url.Values{"token": {token}, "next": {next}}.Encode()
		return do(h, "POST", "http://relay/login", func(r *http.Request) {
			r.Body = http.NoBody
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r2 := httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Body, r.ContentLength = r2.Body, r2.ContentLength
		})
	}
	if res := login("somebody-elses-0123456789", "/"); res.StatusCode != 401 || len(res.Cookies()) > 0 || !strings.Contains(text(t, res), "not known") {
		t.Errorf("a wrong token logs in: %d", res.StatusCode)
	}
	for next, want := range map[string]string{"/messages?topic=a%26b": "/messages?topic=a%26b", "": "/", "https://evil.example/": "/", "//evil.example": "/", "////evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/"} {
		if res := login(operatorToken, next); res.StatusCode != 303 || res.Header.Get("Location") != want {
			t.Errorf("next=%s leads to %s, want %s", next, res.Header.Get("Location"), want)
		}
	}
	cookies := login(operatorToken, "/").Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookies[0].Value, operatorToken) {
		t.Fatalf("cookies: %v", cookies)
	}
	with := func(value string) int {
		return do(h, "GET", "http://relay/api/v1/status", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName, Value: value}) }).StatusCode
	}
	if with(cookies[0].Value) != 200 {
		t.Error("the session does not hold")
	}
	parts := strings.Split(cookies[0].Value, ":")
	for _, forged := range []string{parts[0] + ":99999999999:" + parts[2], "grafana:" + parts[1] + ":" + parts[2], parts[0] + ":" + parts[1] + ":", cookies[0].Value + ":", ""} {
		if with(forged) != 401 {
			t.Errorf("forged: %q", forged)
		}
	}
	if with(g.holders[0].cookie(time.Now().Add(-sessionFor))) != 401 {
		t.Error("a session does not end")
	}
	write("another-0123456789abcdef")
	g.holders[0].sum.Check(time.Now())
	if with(cookies[0].Value) != 401 {
		t.Error("a session outlives its token")
	}
}

// TestWorkersDoNotLogIn: what may look at nothing gets no session.
func TestWorkersDoNotLogIn(t *testing.T) {
	_, h := newGate(t, slog.New(slog.DiscardHandler))
	res := do(h, "POST", "http://relay/login", func(r *http.Request) { r.PostForm = url.Values{"token": {workerToken}} })
	if res.StatusCode != 403 || len(res.Cookies()) > 0 {
		t.Errorf("%d, %v", res.StatusCode, res.Cookies())
	}
}

// TestLogSaysWhoDidWhat: what changes something is logged with the name, never with the token; wrong tokens are counted.
func TestLogSaysWhoDidWhat(t *testing.T) {
	var log bytes.Buffer
	_, h := newGate(t, slog.New(slog.NewTextHandler(&log, nil)))
	do(h, "POST", "http://relay/api/v1/subscriptions/mail/pause", bearer(operatorToken))
	do(h, "GET", "http://relay/api/v1/status", bearer(viewerToken))
	for range 1000 {
		do(h, "GET", "http://relay/api/v1/status", bearer("guess-0123456789abcdef"))
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `who=ops role=operator what="POST /api/v1/subscriptions/mail/pause" status=200`) || !strings.Contains(lines[1], "refused a token") {
		t.Errorf("the log:\n%s", log.String())
	}
	if strings.Contains(log.String(), operatorToken) || strings.Contains(log.String(), "guess-") {
		t.Error("the log holds a token")
	}
}

// TestBadTokensAreExplained: each error names what is wrong and what would be right, and shows no secret.
func TestBadTokensAreExplained(t *testing.T) {
	const hidden = "s3cret-s3cret-s3cret"
	for text, want := range map[string]string{
		hidden:                                   "token 1: must look like NAME:ROLE=REFERENCE",
		"ops:operator=" + hidden:                 "token 1: the reference of ops holds something else than a reference",
		"ops:boss=env:A":                         `token 1: ops: role "boss": must be one of worker, viewer, operator, admin`,
		"ops:nobody=env:A":                       `role "nobody"`,
		"ops:operator[mail]=env:A":               "ops: brackets hold the subscriptions of a worker",
		"m:worker[]=env:A":                       "m: brackets hold the subscriptions of a worker",
		"a:viewer=env:A, a:admin=env:B":          `token 2: another token is named "a", too`,
		"a:viewer=env:A, : viewer=env:" + hidden: "token 2: must look like",
	} {
		_, err := ParseTokens(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hidden) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	t.Setenv("SHORT", "0123456789abcde")
	_, err := NewGate([]Token{{Identity{Name: "ops", Role: Admin}, "env:SHORT"}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "POSTRIDER_API_TOKENS: ops") || !strings.Contains(err.Error(), "16 to 512 characters") || strings.Contains(err.Error(), "0123456789abcde") {
		t.Errorf("a short token: %v", err)
	}
}

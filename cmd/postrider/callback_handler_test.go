package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/callback"
)

func TestCallbackCompletes(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	id, token := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	post(t, url+"/complete", "").wants(t, "complete", 204)
	if state, _, _ := c.row(t, id); state != "completed" {
		t.Errorf("the message is %s", state)
	}
	if n := c.looks.Load(); n != 1 {
		t.Errorf("the relay was told to look %d times", n)
	}
	for _, action := range []string{"/complete", "/fail", "/heartbeat"} {
		post(t, url+action, "").wants(t, "again"+action, 410, "the attempt is over")
	}
	// A proxy in front may strip the path of the base URL.
	id, token = c.accepted(t)
	url = strings.Replace(c.urls.URL("billing", id, token), "/public", "", 1)
	post(t, url+"/complete", " {} ").wants(t, "complete without the base's path", 204)
	c.counted(t, "complete", "done", 2)
	c.counted(t, "fail", "over", 1)
	if text := c.log.String(); !strings.Contains(text, "action=complete subscription=billing") || strings.Contains(text, url[strings.LastIndex(url, "/")+1:]) {
		t.Errorf("the log:\n%s", text)
	}
}

// What a callback says came of the work is kept with the message, as it came.
func TestCallbackLeavesAResult(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	longest := `"` + strings.Repeat("x", 65534) + `"`
	for body, want := range map[string]string{
		`{"result": {"receipt": 17, "to": "Zoë 😀"}}`: `{"receipt": 17, "to": "Zoë 😀"}`,
		`{"result": null}`:            "",
		`{"result": false}`:           "false",
		`{"result": ` + longest + `}`: longest,
	} {
		id, token := c.accepted(t)
		url := c.urls.URL("billing", id, token)
		post(t, url+"/complete", body).wants(t, "complete", 204)
		post(t, url+"/complete", `{"result": "again"}`).wants(t, "complete again", 410)
		if got := one[string](t, c.db, fmt.Sprintf("SELECT coalesce((SELECT string_agg(result::text, '; ') FROM postrider.results WHERE subscription = 'billing' AND id = %d), '')", id)); got != want {
			t.Errorf("%.80s: kept is %.80s, want %.80s", body, got, want)
		}
	}
}

// late is how much later than it was written a row may be looked at.
const late = 20 * time.Second

func TestCallbackFails(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	const never = -1
	for body, want := range map[string]struct {
		reason string
		due    time.Duration
	}{
		"":                            {"the receiver reports: failed", 0},
		`{}`:                          {"the receiver reports: failed", 0},
		`{"reason": "no such shop"}`:  {"the receiver reports: no such shop", 0},
		`{"reason": null}`:            {"the receiver reports: failed", 0},
		`{"retry_after": 90}`:         {"the receiver reports: failed", 90 * time.Second},
		`{"retry_after": 31104000}`:   {"the receiver reports: failed", 31104000 * time.Second},
		`{"retry_after": 1.5}`:        {"the receiver reports: failed", 1500 * time.Millisecond},
		`{"dead": true}`:              {"the receiver reports: failed", never},
		`{"dead": false, "reason":1}`: {"", 0},
		`{"reason": "a\u0000\n\u001bb ü", "dead": true}`: {"the receiver reports: a   b ü", never},
	} {
		id, token := c.accepted(t)
		answer := post(t, c.urls.URL("billing", id, token)+"/fail", body)
		state, reason, due := c.row(t, id)
		if want.reason == "" {
			if answer.status != 400 || state != "leased" {
				t.Errorf("%s: %+v, and the message is %s", body, answer, state)
			}
			continue
		}
		answer.wants(t, body, 204)
		if state != "failed" || reason != want.reason || (due == never) != (want.due == never) || due > want.due || due < want.due-late {
			t.Errorf("%s: the message is %s, due in %v, with %q", body, state, due, reason)
		}
	}
}

func TestCallbackHeartbeat(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	id, token := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	for body, lease := range map[string]time.Duration{"": 10 * time.Minute, `{"lease": 60}`: time.Minute, `{"lease": 604800}`: 7 * 24 * time.Hour, `{"lease": null}`: 10 * time.Minute} {
		answer := post(t, url+"/heartbeat", body)
		answer.wants(t, body, 200)
		var until struct{ Until time.Time }
		if err := json.Unmarshal([]byte(answer.body), &until); err != nil {
			t.Fatal(err)
		}
		if _, _, due := c.row(t, id); due > lease || due < lease-late || time.Until(until.Until) > lease+time.Second || time.Until(until.Until) < due-time.Second {
			t.Errorf("%s: due in %v, the answer is %s", body, due, answer.body)
		}
	}
	post(t, url+"/complete", "").wants(t, "after heartbeats", 204)
	if n := c.looks.Load(); n != 1 {
		t.Errorf("the relay was told to look %d times", n)
	}
}

func TestCallbacksOfAttemptsThatAreOver(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	actions := []string{"/complete", "/fail", "/heartbeat"}
	id, token := c.accepted(t)
	late := c.urls.URL("billing", id, token)
	c.db.Exec(t, "UPDATE postrider.parked SET due = clock_timestamp() - interval '1 millisecond' WHERE id = $1", id)
	for _, action := range actions {
		post(t, late+action, "").wants(t, "late"+action, 410)
	}
	recordAccepted(t, c.db, id, token+5, "1 minute")
	for _, action := range actions {
		post(t, late+action, "").wants(t, "the attempt before"+action, 410)
	}
	if state, _, _ := c.row(t, id); state != "leased" {
		t.Errorf("an old attempt has made the new one %s", state)
	}
	post(t, c.urls.URL("billing", id, token+5)+"/complete", "").wants(t, "the new attempt", 204)

	c.db.Exec(t, "DELETE FROM postrider.parked WHERE id = $1", id)
	c.db.Exec(t, "UPDATE postrider.cursors SET base = pg_current_snapshot()")
	for what, url := range map[string]string{
		"a message that is settled":     late,
		"a message that never was":      c.urls.URL("billing", 1<<40, 5),
		"a subscription that never was": c.urls.URL("nobody", id, token),
	} {
		post(t, url+"/complete", "").wants(t, what, 410)
	}
	if n := c.looks.Load(); n != 1 {
		t.Errorf("the relay was told to look %d times, want once", n)
	}
}

func TestForgedCallbacksAreRefused(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	id, token := c.accepted(t)
	other, _ := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	signature := url[strings.LastIndex(url, "/")+1:]
	with := func(subscription string, id, token int64) string {
		u := c.urls.URL(subscription, id, token)
		return u[:strings.LastIndex(u, "/")+1] + signature
	}
	forged := []string{with("other", id, token), with("billing", other, token), with("billing", id, token+1), url[:len(url)-1], url + "A",
		strings.Replace(url, signature, strings.ToLower(signature), 1)}
	for _, url := range forged {
		post(t, url+"/complete", "{").wants(t, url, 403, "the signature in the URL does not verify")
	}
	if state, _, _ := c.row(t, id); state != "leased" {
		t.Errorf("the message is %s", state)
	}
	text := c.log.String()
	if n := strings.Count(text, "level=WARN"); n != 1 || strings.Contains(text, signature) {
		t.Errorf("%d warnings, want one of %d forgeries, and no signature:\n%s", n, len(forged), text)
	}
	c.counted(t, "complete", "forged", len(forged))
}

func TestCallbacksThatAreWrong(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	id, token := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	base := url[:strings.Index(url, "/public")]
	for _, path := range []string{"/", "/healthz", "/metrics", "/public", "/callbacks/billing/1/2/x"} {
		request(t, "GET", base+path, "").wants(t, path, 404)
	}
	post(t, url, "").wants(t, "no action", 404)
	post(t, url+"/cancel", "").wants(t, "unknown action", 404, "/complete, /fail or /heartbeat")
	for _, method := range []string{"GET", "PUT", "DELETE", "HEAD"} {
		request(t, method, url+"/complete", "").wants(t, method, 405)
	}
	for _, bad := range []struct{ action, body, want string }{
		{"complete", `{"answer": 1}`, `complete knows no field \"answer\": it takes result`},
		{"complete", `{"result": "` + strings.Repeat("x", 65535) + `"}`, `result: has 65537 bytes: must have at most 65536`},
		{"complete", `{"result": ` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + `}`, `result: is nested 101 deep: must be at most 100`},
		{"complete", `nonsense`, "something else than a JSON object"},
		{"fail", `[]`, "something else than a JSON object"},
		{"fail", `null`, "something else than a JSON object"},
		{"fail", `{"reason": "x"} {}`, "something else than a JSON object"},
		{"fail", `{"reason": 5}`, "reason 5: must be text"},
		{"fail", `{"retry_after": "soon"}`, `retry_after \"soon\": must be a number of seconds from 0 to 31104000`},
		{"fail", `{"retry_after": -1}`, "retry_after -1: must be a number of seconds"},
		{"fail", `{"retry_after": 31536000}`, "retry_after 31536000: must be"},
		{"fail", `{"retry_after": 1e400}`, "retry_after 1e400: must be"},
		{"fail", `{"dead": "yes"}`, `dead \"yes\": must be true or false`},
		{"fail", `{"dead": true, "retry_after": 5}`, "retry_after 5: has no meaning with dead"},
		{"fail", `{"raeson": "x"}`, `fail knows no field \"raeson\": it takes reason, retry_after and dead`},
		{"heartbeat", `{"lease": 0}`, "lease 0: must be a number of seconds from 1 to 604800"},
		{"heartbeat", `{"lease": 604801}`, "lease 604801: must be"},
		{"heartbeat", `{"lease": "5m"}`, `lease \"5m\": must be`},
		{"heartbeat", `{"leese": 5}`, `heartbeat knows no field \"leese\": it takes lease`},
	} {
		post(t, url+"/"+bad.action, bad.body).wants(t, bad.body, 400, bad.want)
	}
	post(t, url+"/fail", `{"reason": "`+strings.Repeat("x", callback.MaxBody)+`"}`).wants(t, "a long body", 413, "longer than 66560 bytes")
	if state, _, due := c.row(t, id); state != "leased" || due < 9*time.Minute {
		t.Errorf("the message is %s, due in %v", state, due)
	}
}

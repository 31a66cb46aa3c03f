package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/pgtest"
)

// apiClient is a program that calls a relay's API.
type apiClient struct {
	t     *testing.T
	base  string
	token string
}

// apiSidecar is a relay with an API and nothing to deliver.
func apiSidecar(t *testing.T, db *pgtest.DB, more ...string) (*process, *apiClient) {
	t.Helper()
	p := start(t, append([]string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_API_ADDR=127.0.0.1:0"}, more...)...)
	base := "http://" + p.waitFor(`serving the API".* address=(\S+)`)[1]
	p.waitFor("relay started")
	return p, &apiClient{t: t, base: base}
}

// do makes a request and reads the answer into out, unless it is nil. It wants the status.
func (c *apiClient) do(method, path, body string, status int, out any) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := jobsClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	if res.StatusCode != status || res.Header.Get("Content-Type") != kind || res.Header.Get("Cache-Control") != "no-store" {
		c.t.Fatalf("%s %s: %d %s %s, want %d %s", method, path, res.StatusCode, res.Header.Get("Content-Type"), text, status, kind)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			c.t.Fatalf("%s %s: %s: %v", method, path, text, err)
		}
	}
	return string(text)
}

// fails wants a problem whose text has these parts.
func (c *apiClient) fails(method, path, body string, status int, code string, parts ...string) {
	c.t.Helper()
	var p struct{ Code, Detail string }
	c.do(method, path, body, status, &p)
	if p.Code != code {
		c.t.Errorf("%s %s %s: %s, want %s", method, path, body, p.Code, code)
	}
	for _, part := range parts {
		if !strings.Contains(p.Detail, part) {
			c.t.Errorf("%s %s %s: %q, want %q", method, path, body, p.Detail, part)
		}
	}
}

// What commands do can be done over HTTP: a subscription's life, messages that are found, cancelled, redriven, and what is done to many.
func TestAPIDoesWhatCommandsDo(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url, received := webhookReceiver(t, func(r *http.Request) int {
		if r.Header.Get("postrider-topic") == "orders.bad" {
			return http.StatusGone + 12 // 422: it never will be taken
		}
		return http.StatusOK
	})
	_, c := apiSidecar(t, db)
	var change admin.Change
	c.do("PUT", "/subscriptions/billing", fmt.Sprintf(`{"topics": ["orders.>"], "sink": %q, "settings": {"max_attempts": 1}}`, url), 200, &change)
	if change.Action != "created" {
		t.Errorf("a new subscription is %+v", change)
	}
	c.do("PUT", "/subscriptions/billing?dry_run=true", fmt.Sprintf(`{"topics": ["orders.>"], "sink": %q, "settings": {"max_attempts": 2}}`, url), 200, &change)
	if change.Action != "changed" || len(change.Differences) != 1 {
		t.Errorf("a dry run says %+v", change)
	}
	var message struct {
		ID        int64
		Duplicate bool
	}
	c.do("POST", "/messages", `{"topic": "orders.good", "payload": {"n": 1}, "key": "k", "headers": {"tenant": "a"}}`, 200, &message)
	<-received
	var shown admin.Deliveries
	eventually(t, "it is delivered", func() bool {
		c.do("GET", fmt.Sprintf("/messages/%d", message.ID), "", 200, &shown)
		return shown.List[0].Status == "delivered"
	})
	if string(shown.Content.Payload) != `{"n":1}` || string(shown.Content.Headers) != `{"tenant":"a"}` || *shown.Key != "k" {
		t.Errorf("the message: %+v %s", shown, shown.Content.Payload)
	}
	for range 3 {
		c.do("POST", "/messages", `{"topic": "orders.bad", "body_base64": "AAE="}`, 200, nil)
	}
	dead := func() (ids []int64) {
		var list admin.MessageList
		c.do("GET", "/messages?subscription=billing&status=dead", "", 200, &list)
		for _, m := range list.Messages {
			ids = append(ids, m.ID)
		}
		return ids
	}
	eventually(t, "three are dead", func() bool { return len(dead()) == 3 })
	ids := dead()
	var changed struct {
		Changed int64
		Refused []string
	}
	c.do("POST", "/subscriptions/billing/discard", fmt.Sprintf(`{"ids": [%d, %d]}`, ids[0], message.ID), 200, &changed)
	if changed.Changed != 1 || len(changed.Refused) != 1 || !strings.Contains(changed.Refused[0], "is not parked") {
		t.Errorf("discarded: %+v", changed)
	}
	var preview admin.Preview
	c.do("POST", "/operations/preview", `{"kind": "discard", "subscription": "billing", "topic": "orders.*"}`, 200, &preview)
	var operation admin.Operation
	c.do("POST", "/operations", `{"kind": "discard", "subscription": "billing", "topic": "orders.*"}`, 200, &operation)
	eventually(t, "the others are discarded", func() bool {
		c.do("GET", fmt.Sprintf("/operations/%d", operation.ID), "", 200, &operation)
		return operation.State == "done"
	})
	if preview.Messages != 2 || operation.Changed != 2 || len(dead()) != 0 {
		t.Errorf("the operation was to change %d, and changed %d; %d are dead", preview.Messages, operation.Changed, len(dead()))
	}

	c.do("POST", "/subscriptions/billing/pause", `{"reason": "it moves"}`, 200, nil)
	var status admin.StatusReport
	c.do("GET", "/status", "", 200, &status)
	if s := status.Subscriptions[0]; s.State != "paused" || s.PausedReason != "it moves" || len(status.Relays) != 1 {
		t.Errorf("status: %+v", status)
	}
	c.do("POST", "/messages", `{"topic": "orders.good", "payload": null, "deliver_at": "2999-01-01T00:00:00Z"}`, 200, &message)
	var cancelled struct{ Requested, Cancelled int64 }
	c.do("POST", "/messages/cancel", fmt.Sprintf(`{"subscription": "billing", "ids": [%d], "reason": "not needed"}`, message.ID), 200, &cancelled)
	if cancelled.Requested != 1 {
		t.Errorf("cancelled: %+v", cancelled)
	}
	c.do("POST", "/subscriptions/billing/resume", "", 200, nil)
	eventually(t, "it is cancelled", func() bool {
		c.do("GET", fmt.Sprintf("/messages/%d?subscription=billing", message.ID), "", 200, &shown)
		return shown.List[0].Status == "cancelled"
	})
	c.do("POST", "/subscriptions/billing/replay", `{"from": "1h"}`, 200, nil)
	<-received

	c.do("PUT", "/schedules/nightly", `{"cron": "0 3 * * *", "zone": "Europe/Berlin", "topic": "orders.good", "payload": {"n": 2}}`, 200, nil)
	c.do("POST", "/schedules/nightly/run", "", 200, nil)
	for body := ""; body != `{"n":2}`; body = strings.ReplaceAll(body, " ", "") {
		body = <-received
	}
	c.do("POST", "/schedules/nightly/pause", "", 200, nil)
	if text := c.do("GET", "/schedules", "", 200, nil); !strings.Contains(text, `"state":"paused"`) {
		t.Errorf("schedules: %s", text)
	}
	c.do("DELETE", "/schedules/nightly", "", 200, nil)
	c.do("DELETE", "/subscriptions/billing", "", 200, nil)
	c.fails("GET", "/subscriptions/billing", "", 404, "not_found", `there is no subscription "billing"`)
	if text := c.do("GET", "/doctor", "", 200, nil); !strings.Contains(text, `"name":"connection","status":"ok"`) {
		t.Errorf("the doctor says %s", text)
	}
}

// Errors name what is wrong, the value, and what would be right.
// Many are created, changed and pruned at once: those of one scope, if that was confirmed.
func TestAPIAppliesMany(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	_, c := apiSidecar(t, db)
	type changes struct {
		Changes []struct{ Name, Action string }
	}
	apply := func(query, names string, want string) {
		t.Helper()
		for _, kind := range []string{"subscriptions", "schedules"} {
			var items []string
			for name := range strings.FieldsSeq(names) {
				if kind == "schedules" {
					items = append(items, fmt.Sprintf(`{"name": %q, "cron": "@daily", "topic": "a"}`, name))
				} else {
					items = append(items, fmt.Sprintf(`{"name": %q, "topics": ["a"], "sink": "pull:"}`, name))
				}
			}
			body := fmt.Sprintf(`{%q: [%s]}`, kind, strings.Join(items, ", "))
			if want == "" {
				c.fails("POST", "/"+kind+"/apply"+query, body, 409, "conflict", "would remove what is not named: one")
				continue
			}
			var is changes
			c.do("POST", "/"+kind+"/apply"+query, body, 200, &is)
			var all []string
			for _, change := range is.Changes {
				all = append(all, change.Name+" "+change.Action)
			}
			if text := strings.Join(all, ", "); text != want {
				t.Errorf("%s%s: %s, want %s", kind, query, text, want)
			}
		}
	}
	apply("?dry_run=true", "one two", "one created, two created")
	apply("", "two one", "one created, two created")
	apply("?scope=shop", "three", "three created")
	apply("?prune=true", "two", "")
	apply("?prune=true&dry_run=true", "two", "two unchanged, one removed")
	apply("?prune=true&yes=true", "two", "two unchanged, one removed")
	apply("", "two three", "three unchanged, two unchanged")
	apply("?prune=true&yes=true&scope=shop", "", "three removed")
}

func TestAPIExplainsBadRequests(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.subscribe('billing', '{orders.>}', 'https://user:geheim@host/hook')")
	_, c := apiSidecar(t, db)
	for _, f := range []struct {
		method, path, body string
		status             int
		code               string
		parts              []string
	}{
		{"GET", "/nothing", "", 404, "not_found", []string{"/api/v1/openapi.json lists what there is"}},
		{"PATCH", "/subscriptions/billing", "", 405, "wrong_method", []string{"GET PUT DELETE"}},
		{"GET", "/messages?limit=0", "", 400, "invalid_request", []string{"limit 0", ">= 1"}},
		{"GET", "/messages?limt=5", "", 400, "invalid_request", []string{"limt", "unknown query parameter"}},
		{"GET", "/messages?since=yesterday", "", 400, "invalid_request", []string{`since "yesterday"`}},
		{"GET", "/messages?status=dead", "", 400, "invalid_request", []string{"name a subscription"}},
		{"GET", "/messages/x", "", 400, "invalid_request", []string{`id "x"`}},
		{"GET", "/messages/17", "", 404, "not_found", []string{"message 17"}},
		{"POST", "/messages", `{`, 400, "invalid_request", nil},
		{"POST", "/messages", `{"topic": "a..b", "payload": 1}`, 400, "invalid_request", []string{`topic "a..b"`}},
		{"POST", "/messages", `{"topic": "a.b"}`, 400, "invalid_request", []string{"payload and body_base64"}},
		{"POST", "/messages", `{"topic": "a.b", "payload": 1, "priority": 7}`, 400, "invalid_request", []string{"priority 7", "<= 4"}},
		{"POST", "/messages", `{"topic": "a.b", "payload": 1, "unique_key": "k", "unique_scope": "for ever"}`, 400, "invalid_request", []string{"for ever"}},
		{"POST", "/subscriptions/biling/pause", "", 404, "not_found", []string{`did you mean "billing"?`}},
		{"PUT", "/subscriptions/x", `{"topics": ["a"], "sink": "htps://host"}`, 400, "invalid_request", []string{"htps", "known are amqp, amqps"}},
		{"PUT", "/subscriptions/x", `{"topics": ["a"], "sink": "stdout:", "settings": {"max_atempts": 1}}`, 400, "invalid_request", []string{`did you mean "max_attempts"?`}},
		{"PUT", "/subscriptions/X", `{"topics": ["a"], "sink": "stdout:"}`, 400, "invalid_request", []string{`name "X"`}},
		{"PUT", "/subscriptions/billing", `{"topics": ["a"], "sink": "https://xxxxx@elsewhere/hook"}`, 400, "invalid_request", []string{"in place of a secret"}},
		{"PUT", "/subscriptions/other", `{"topics": ["a"], "sink": "https://xxxxx@host/hook"}`, 400, "invalid_request", []string{"in place of a secret"}},
		{"POST", "/subscriptions/billing/replay", `{"from": "tomorrow"}`, 400, "invalid_request", []string{`"tomorrow"`, "earliest"}},
		{"POST", "/operations", `{"kind": "redrive", "subscription": "billing"}`, 400, "invalid_request", []string{"say which messages"}},
		{"POST", "/operations", `{"kind": "remove", "subscription": "billing", "everything": true}`, 400, "invalid_request", []string{"redrive, discard, cancel"}},
		{"POST", "/subscriptions/billing/discard", `{"ids": null}`, 400, "invalid_request", []string{"ids"}},
		{"POST", "/subscriptions/billing/redrive", `{"ids": []}`, 400, "invalid_request", []string{"ids"}},
		{"POST", "/messages/cancel", `{"subscription": "billing", "ids": null}`, 400, "invalid_request", []string{"ids"}},
		{"POST", "/operations/7/cancel", "", 404, "not_found", []string{"there is no operation 7"}},
		{"POST", "/subscriptions/apply", `{"subscriptions": [{"name": "a", "topics": ["a"], "sink": "htps://host"}]}`, 400, "invalid_request", []string{`"a"`, "htps"}},
		{"POST", "/subscriptions/apply", `{"subscriptions": [{"name": "a", "topics": ["a"], "sink": "pull:"}, {"name": "a", "topics": ["b"], "sink": "pull:"}]}`, 400, "invalid_request", []string{`"a": is named twice`}},
		{"POST", "/schedules/apply?prune=perhaps", `{"schedules": []}`, 400, "invalid_request", []string{"prune"}},
		{"PUT", "/schedules/s", `{"cron": "61 * * * *", "topic": "a"}`, 400, "invalid_request", []string{"61"}},
		{"PUT", "/schedules/s", `{"cron": "* * * * *", "topic": "a", "zone": "Mars/Base"}`, 400, "invalid_request", []string{"Mars/Base"}},
	} {
		c.fails(f.method, f.path, f.body, f.status, f.code, f.parts...)
	}
	text := c.do("GET", "/subscriptions/billing", "", 200, nil)
	if strings.Contains(text, "geheim") {
		t.Errorf("a secret shows: %s", text)
	}
	var s admin.Subscription
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	c.do("PUT", "/subscriptions/billing", fmt.Sprintf(`{"topics": ["a"], "sink": %q}`, s.Sink), 200, nil)
	if sink := one[string](t, db, "SELECT sink FROM postrider.subscriptions"); sink != "https://user:geheim@host/hook" {
		t.Errorf("sent back as it was shown, the sink became %s", sink)
	}
	// A form and a page of another origin are no programs that call an API.
	for field, value := range map[string]string{"Content-Type": "text/plain", "Origin": "https://evil.example", "Host": "evil.example"} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.base+"/api/v1/messages", strings.NewReader(`{"topic": "a.b", "payload": 1}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(field, value)
		if field == "Host" {
			req.Host = value
		}
		res, err := jobsClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if !slices.Contains([]int{403, 415, 421}, res.StatusCode) || res.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %s is answered %d", field, value, res.StatusCode)
		}
	}
	if n := one[int64](t, db, "SELECT count(*) FROM postrider.outbox"); n != 0 {
		t.Errorf("%d messages were enqueued", n)
	}
}

// A look that takes too long is given up, here and in the database.
func TestAPIIsBounded(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.subscribe('billing', '{orders.>}', 'stdout:')")
	_, c := apiSidecar(t, db, "POSTRIDER_FOLLOW=timer")
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE postrider.schedules IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	c.fails("GET", "/schedules", "", 503, "timeout", "took longer than 5s")
	eventually(t, "nothing looks any more", func() bool {
		return one[int64](t, db, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%planned_from%' AND pid <> pg_backend_pid()") == 0
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.do("GET", "/schedules", "", 200, nil)
}

// While the database is away callers are told so, and when to ask again; when it is back, nothing has to be done about it.
func TestAPIWithoutDatabase(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context(), pgtest.Options{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	p := start(t, "POSTRIDER_DATABASE_URL="+server.URL("postgres"), "POSTRIDER_API_ADDR=127.0.0.1:0", "POSTRIDER_FOLLOW=timer")
	c := &apiClient{t: t, base: "http://" + p.waitFor(`serving the API".* address=(\S+)`)[1]}
	p.waitFor("relay started")
	c.do("GET", "/status", "", 200, nil)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	c.fails("GET", "/status", "", 503, "unavailable")
	res, err := jobsClient.Get(c.base + "/api/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.Header.Get("Retry-After") == "" {
		t.Error("nothing says when to ask again")
	}
	if err := server.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API answers again", func() bool {
		res, err := jobsClient.Get(c.base + "/api/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// Without a right to see payloads a viewer sees the rest.
// awaited asks for a message, and sends where it stands for the subscription when the answer comes. It returns once the question is on its way.
func (c *apiClient) awaited(path string, answers chan<- string) {
	sent := make(chan struct{})
	go func() {
		trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(c.t.Context(), trace), http.MethodGet, c.base+"/api/v1"+path, nil)
		if err != nil {
			answers <- err.Error()
			return
		}
		res, err := jobsClient.Do(req)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		var m admin.Deliveries
		if err := json.NewDecoder(res.Body).Decode(&m); err != nil || len(m.List) == 0 || m.Content == nil {
			answers <- fmt.Sprintf("%d %v %+v", res.StatusCode, err, m)
			return
		}
		answers <- fmt.Sprintf("%s %s", m.List[0].Status, m.List[0].Result)
	}()
	<-sent
}

// Whoever asks for a message may wait until it is settled, by whom ever, and many who wait keep nobody else from looking.
func TestAPIWaitsForAMessage(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "migrate").ok()
	db.Exec(t, `SELECT postrider.subscribe('mail', '{mail.>}', 'pull:', '{"worker_ttl": "10m"}'), postrider.subscribe('work', '{work.>}', 'sql:')`)
	_, c := apiSidecar(t, db)
	w := newJobWorker(t, c.base, "w")
	enqueue := func(topic string) (id int64) {
		t.Helper()
		id, err := strconv.ParseInt(strings.TrimSpace(on(t, db.URL(), "enqueue", topic).ok().out), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	mail, work := enqueue("mail.sent"), enqueue("work.a")

	// Nobody waits who does not ask for that, nor longer than asked for.
	for _, query := range []string{"", "?wait=0s", "?wait=1ms", "?subscription=mail&wait=20ms"} {
		var m admin.Deliveries
		if c.do("GET", fmt.Sprintf("/messages/%d%s", mail, query), "", 200, &m); m.Settled() || m.Content == nil {
			t.Errorf("%q: %+v", query, m)
		}
	}
	for _, bad := range []string{"31s", "-1s", "soon", "5"} {
		c.fails("GET", fmt.Sprintf("/messages/%d?wait=%s", mail, bad), "", 400, "invalid_request", fmt.Sprintf("query.wait %q: must be a time from 0s to 30s", bad))
	}
	c.fails("GET", "/messages/99999?wait=30s", "", 404, "not_found")

	const many = 60
	answers := make(chan string, many)
	for i := range many {
		c.awaited(fmt.Sprintf("/messages/%d?wait=30s&subscription=%s", mail, []string{"mail", ""}[i%2]), answers)
	}
	for range 3 {
		c.do("GET", "/status", "", 200, nil) // though there are only a few connections for all of them
	}
	job := w.take(1)[0]
	w.settle("ok", job.is("done", "result", map[string]any{"sum": 3}))
	for range many {
		if got := <-answers; got != `delivered {"sum":3}` {
			t.Fatalf("who waited is told %s", got)
		}
	}
	// A worker in SQL tells no relay.
	c.awaited(fmt.Sprintf("/messages/%d?wait=30s", work), answers)
	db.Exec(t, "SELECT id FROM postrider.take('work')")
	if got := <-answers; got != "delivered null" {
		t.Errorf("of what was taken in SQL: %s", got)
	}
	// So does the command.
	work = enqueue("work.b")
	on(t, db.URL(), "messages", "show", fmt.Sprint(work), "--wait", "1ms").ok("status pending")
	on(t, db.URL(), "messages", "show", fmt.Sprint(work), "--wait", "-1s").fails("--wait -1s: must be 0s or more")
	shown := make(chan result, 1)
	go func() { shown <- on(t, db.URL(), "messages", "show", fmt.Sprint(work), "work", "--wait", "5m") }()
	db.Exec(t, "SELECT id FROM postrider.take('work')")
	(<-shown).ok("status delivered")
}

// Who waits is told where the message stands when the relay stops.
func TestAPIStopsWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "migrate").ok()
	db.Exec(t, `SELECT postrider.subscribe('mail', '{mail.>}', 'pull:')`)
	p, c := apiSidecar(t, db)
	id := strings.TrimSpace(on(t, db.URL(), "enqueue", "mail.sent").ok().out)
	answers := make(chan string, 1)
	c.awaited("/messages/"+id+"?wait=30s", answers)
	eventually(t, "the message has been looked at", func() bool {
		return one[bool](t, db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%postrider.deliveries_of($1%' AND datname = current_database() AND pid <> pg_backend_pid())")
	})
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if got := <-answers; got != "pending null" {
		t.Errorf("who waited is told %s", got)
	}
}

func TestAPIHidesPayloads(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.subscribe('billing', '{orders.>}', 'pull:')")
	db.Exec(t, `SELECT postrider.enqueue('orders.x', '{"card": "geheim"}')`)
	db.Exec(t, `INSERT INTO postrider.results (subscription, id, created_at, result) SELECT 'billing', id, created_at, '{"last_digits": "geheim"}' FROM postrider.outbox`)
	_, c := apiSidecar(t, db, "VIEWER=viewer-0123456789abcdef", "OPERATOR=operator-0123456789abcdef", "POSTRIDER_API_HIDE_PAYLOADS=true",
		"POSTRIDER_API_TOKENS=viewer:viewer=env:VIEWER, operator:operator=env:OPERATOR")
	c.token = "viewer-0123456789abcdef"
	if text := c.do("GET", "/messages/1", "", 200, nil); strings.Contains(text, "geheim") || !strings.Contains(text, `"content":null`) {
		t.Errorf("a viewer sees %s", text)
	}
	c.token = "operator-0123456789abcdef"
	if text := c.do("GET", "/messages/1", "", 200, nil); !strings.Contains(text, "geheim") {
		t.Errorf("an operator sees %s", text)
	}
}

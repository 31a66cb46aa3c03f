package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// A receiver may call before its delivery is recorded: it waits, and is told to come again if that takes long.
func TestEarlyCallbacks(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	id, token := enqueued(t, c.db), time.Now().UnixMicro()
	url := c.urls.URL("billing", id, token)
	c.handler.Reading, c.handler.Patience = 300*time.Millisecond, time.Second // it may wait for longer than it may take to send
	answer := post(t, url+"/complete", "")
	answer.wants(t, "early", 425, "not recorded yet")
	if answer.retryAfter != "1" {
		t.Errorf("Retry-After %q", answer.retryAfter)
	}
	c.handler.Patience = patience
	for what, before := range map[string]func(){
		"complete": func() {},
		"fail": func() { // the attempt before, whose lease is over: else there would be no other
			recordAccepted(t, c.db, id, token-1, "0")
			c.db.Exec(t, "UPDATE postrider.parked SET state = 'retrying', due = now()")
		},
	} {
		before()
		asked := c.store.Pool.Stat().AcquireCount()
		answers := make(chan told, 1)
		go func() { answers <- post(t, url+"/"+what, "") }()
		eventually(t, "the callback waits", func() bool { return c.store.Pool.Stat().AcquireCount() >= asked+4 })
		select {
		case answer := <-answers:
			t.Fatalf("%s did not wait: %+v", what, answer)
		default:
		}
		recordAccepted(t, c.db, id, token, "1 minute")
		(<-answers).wants(t, what, 204)
		id, token = enqueued(t, c.db), token+10
		url = c.urls.URL("billing", id, token)
	}
}

// Callbacks that come at the same time, to any number of relays: one of them counts.
func TestConcurrentCallbacks(t *testing.T) {
	t.Parallel()
	db := subscribed(t)
	relays := []*callbacksOf{serveCallbacks(t, db, nil), serveCallbacks(t, db, nil)}
	id, token := relays[0].accepted(t)
	answers := make(chan told)
	for i := range 10 {
		url := relays[i%2].urls.URL("billing", id, token)
		go func() { answers <- post(t, url+[]string{"/complete", "/fail"}[i/2%2], "") }()
	}
	done := 0
	for range 10 {
		switch a := <-answers; a.status {
		case 204:
			done++
		case 410:
		default:
			t.Errorf("the answer is %+v", a)
		}
	}
	if done != 1 {
		t.Errorf("%d callbacks were recorded, want 1", done)
	}
}

// A relay's role may do it, and so may a relay behind a pooler in transaction mode.
func TestCallbacksAsARelayConnects(t *testing.T) {
	t.Parallel()
	db := subscribed(t)
	role := db.Role(t, "relay", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--relay", role).ok().out)
	pooler := startPooler(t, db.URL(), true)
	throughPooler := func(url string) string {
		return strings.Replace(url, net.JoinHostPort("127.0.0.1", portOf(db)), pooler, 1)
	}
	for what, change := range map[string]func(string) string{
		"role":   func(string) string { return db.RoleURL(role) },
		"pooler": throughPooler, "another relay behind it": throughPooler, // they take turns on one connection
		"simple protocol": func(url string) string { return url + "&default_query_exec_mode=simple_protocol" },
	} {
		t.Run(what, func(t *testing.T) {
			c := serveCallbacks(t, db, change)
			id, token := c.accepted(t)
			url := c.urls.URL("billing", id, token)
			post(t, url+"/heartbeat", `{"lease": 60}`).wants(t, "heartbeat", 200)
			post(t, url+"/heartbeat", "").wants(t, "heartbeat", 200)
			post(t, url+"/fail", `{"reason": "it's", "retry_after": 5}`).wants(t, "fail", 204)
			post(t, url+"/complete", "").wants(t, "complete", 410)
			early := c.urls.URL("billing", enqueued(t, db), token)
			post(t, early+"/complete", "").wants(t, "early", 425)
		})
	}
}

func TestCallbacksWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Servers(t, pgtest.Options{})
	db := server.NewDB(t)
	on(t, db.URL(), "migrate").ok()
	db.Exec(t, "SELECT postrider.subscribe('billing', '{>}', 'http://127.0.0.1:1')")
	c := serveCallbacks(t, db, nil)
	id, token := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	post(t, url+"/heartbeat", "").wants(t, "before", 200)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answer := post(t, url+"/complete", "")
		answer.wants(t, "down", 503, "the database cannot be asked now")
		if answer.retryAfter != "5" || strings.Contains(answer.body, "127.0.0.1") {
			t.Errorf("the answer is %+v", answer)
		}
	}
	post(t, url[:len(url)-1]+"/complete", "").wants(t, "forged", 403)
	if text := c.log.String(); strings.Count(text, "a callback cannot be recorded") != 1 || !strings.Contains(text, "error=") {
		t.Errorf("the log:\n%s", text)
	}
	if err := server.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the callback is recorded", func() bool { return post(t, url+"/complete", "").status == 204 })
}

// Whoever sends a body slowly, or none, does not keep a connection for long.
func TestSlowCallbacksAreCutOff(t *testing.T) {
	t.Parallel()
	c := serveCallbacks(t, subscribed(t), nil)
	c.handler.Reading = 50 * time.Millisecond
	id, token := c.accepted(t)
	url := c.urls.URL("billing", id, token)
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	for path, status := range map[string]string{path + "/complete": "400 ", path + "x/complete": "403 "} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "POST /"+path+" HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{")
		all, err := io.ReadAll(conn) // until the server closes it
		conn.Close()
		if err != nil || !bytes.HasPrefix(all, []byte("HTTP/1.1 "+status)) {
			t.Errorf("%v, answered %q, want %s", err, all, status)
		}
	}
}

func portOf(db *pgtest.DB) string {
	_, port, _ := net.SplitHostPort(strings.Split(strings.SplitN(db.URL(), "@", 2)[1], "/")[0])
	return port
}

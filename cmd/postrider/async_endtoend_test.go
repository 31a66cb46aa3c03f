package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// freeAddress is one that nobody listens on. The callback URL has to name it before the relay starts.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// workplace takes deliveries over, does as their payload says, and calls back.
type workplace struct {
	t        *testing.T
	url      string
	calls    sync.WaitGroup
	attempts chan taken
}

// taken is one delivery as it came.
type taken struct {
	payload, callback, token, attempt string
}

func newWorkplace(t *testing.T) *workplace {
	t.Helper()
	w := &workplace{t: t, attempts: make(chan taken, 100)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + l.Addr().String() + "/work"
	server := &http.Server{Handler: w}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-served; w.calls.Wait() })
	return w
}

// ServeHTTP implements http.Handler. Callbacks run beside the answer: sometimes they come first.
func (w *workplace) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a := taken{string(body), r.Header.Get("Postrider-Callback"), r.Header.Get("Postrider-Token"), cmp.Or(r.Header.Get("Postrider-Attempt"), "1")}
	first := a.attempt == "1"
	switch {
	case strings.Contains(a.payload, "at once"):
		w.call(a, "/complete", "", 204)
	case strings.Contains(a.payload, "fails first") && first:
		w.call(a, "/fail", `{"reason": "the printer is out of paper", "retry_after": 0.2}`, 204)
	case strings.Contains(a.payload, "fails first"):
		w.call(a, "/complete", "", 204)
	case strings.Contains(a.payload, "hopeless"):
		w.call(a, "/fail", `{"reason": "no such order", "dead": true}`, 204)
	case strings.Contains(a.payload, "silent") && first:
		out.Header().Set("Postrider-Lease", "1")
	}
	w.attempts <- a
	out.WriteHeader(http.StatusAccepted)
}

func (w *workplace) call(a taken, action, body string, want int) {
	w.calls.Go(func() {
		if a.callback == "" {
			w.t.Errorf("%s came without a callback URL", a.payload)
			return
		}
		res, err := callbackClient.Post(a.callback+action, "application/json", strings.NewReader(body))
		if err != nil {
			w.t.Error(err)
			return
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); res.StatusCode != want {
			w.t.Errorf("%s, attempt %s: %s answers %d %s, want %d", a.payload, a.attempt, action, res.StatusCode, text, want)
		}
	})
}

// next is the next delivery.
func (w *workplace) next(t *testing.T) taken {
	t.Helper()
	select {
	case a := <-w.attempts:
		return a
	case <-time.After(patience):
		t.Fatal("nothing is delivered")
		return taken{}
	}
}

func (a taken) wants(t *testing.T, payload, attempt string) {
	t.Helper()
	if !strings.Contains(a.payload, payload) || a.attempt != attempt {
		t.Errorf("delivered %s, attempt %s, want %q, attempt %s", a.payload, a.attempt, payload, attempt)
	}
}

func asyncSidecar(t *testing.T, db *pgtest.DB, sink, address string) []string {
	return append(sidecar(db.URL(), sink, "work.>"), `POSTRIDER_OPTIONS={"async":true,"async_lease":"5m"}`, "POSTRIDER_CALLBACK_URL=http://"+address+"/p",
		"POSTRIDER_CALLBACK_SECRETS="+newReferenceFile(t, callbackKey), "POSTRIDER_LOG_LEVEL=debug", "POSTRIDER_BACKOFF_INITIAL=100ms")
}

func enqueueWork(t *testing.T, db *pgtest.DB, what string) {
	t.Helper()
	on(t, db.URL(), "enqueue", "work.new", fmt.Sprintf(`{"do":%q}`, what), "--key", "k").ok()
}

func waitUntilParked(t *testing.T, db *pgtest.DB, want string) {
	t.Helper()
	eventually(t, "parked: "+want, func() bool {
		return one[string](t, db, "SELECT coalesce(string_agg(state, ',' ORDER BY id), '') FROM postrider.parked") == want
	})
}

func TestAsynchronousDeliveries(t *testing.T) {
	t.Parallel()
	db, w, address := newDB(t), newWorkplace(t), freeAddress(t)
	db.Exec(t, "ALTER DATABASE "+db.Name+" SET jit = off") // else it compiles the views for seconds
	p := start(t, append(asyncSidecar(t, db, w.url, address), "POSTRIDER_CALLBACK_ADDR="+address)...)
	p.waitFor("receiving callbacks")

	enqueueWork(t, db, "at once")
	w.next(t).wants(t, "at once", "1")
	eventually(t, "it is delivered", func() bool {
		return one[string](t, db, "SELECT string_agg(status, ',') FROM postrider.deliveries") == "delivered"
	})
	waitUntilParked(t, db, "")

	enqueueWork(t, db, "fails first")
	w.next(t).wants(t, "fails first", "1")
	w.next(t).wants(t, "fails first", "2")
	waitUntilParked(t, db, "")

	enqueueWork(t, db, "hopeless")
	w.next(t).wants(t, "hopeless", "1")
	waitUntilParked(t, db, "dead")
	on(t, db.URL(), "parked", "list").ok("dead 1", "the receiver reports: no such order")
	on(t, db.URL(), "parked", "discard", "default", "--all").ok()

	// Silence past the lease: it comes again as another attempt, and the first may not speak any more.
	enqueueWork(t, db, "silent")
	enqueueWork(t, db, "at once, but behind it")
	first := w.next(t)
	first.wants(t, "silent", "1")
	eventually(t, "status shows it", func() bool {
		return one[bool](t, db, "SELECT leased = 1 FROM postrider.subscription_status") || len(w.attempts) > 0
	})
	second := w.next(t)
	second.wants(t, "silent", "2")
	if first.token == second.token || first.callback == second.callback {
		t.Errorf("both attempts have the token %s and the URL %s", first.token, first.callback)
	}
	post(t, first.callback+"/complete", "").wants(t, "the first attempt", 410)
	post(t, first.callback+"/heartbeat", "").wants(t, "the first attempt", 410)
	waitUntilParked(t, db, "discarded,leased,held")
	on(t, db.URL(), "status").ok("LEASED")
	on(t, db.URL(), "parked", "list").ok("leased 2 in 4m")
	post(t, second.callback+"/heartbeat", `{"lease": 30}`).wants(t, "the second attempt", 200, "until")
	post(t, second.callback+"/complete", "").wants(t, "the second attempt", 204)
	w.next(t).wants(t, "at once, but behind it", "1")
	waitUntilParked(t, db, "discarded")

	if status, body := p.get("/metrics"); status != 200 || !strings.Contains(body, `postrider_callbacks_total{action="complete",result="over"} 1`) {
		t.Errorf("/metrics: %d\n%s", status, body)
	}
	request(t, "GET", "http://"+address+"/metrics", "").wants(t, "/metrics on the public port", 404)
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	if text, _ := p.out.read(); strings.Contains(text, callbackKey) || strings.Contains(text, first.callback[strings.LastIndex(first.callback, "/")+1:]) {
		t.Errorf("a secret in the log:\n%s", text)
	}
}

// Another relay than the one that delivers may receive callbacks, also when that one has gone.
func TestAnotherRelayReceivesCallbacks(t *testing.T) {
	t.Parallel()
	db, w, address := newDB(t), newWorkplace(t), freeAddress(t)
	env := asyncSidecar(t, db, w.url, address)
	sender := start(t, env...)
	enqueueWork(t, db, "first")
	first := w.next(t)
	first.wants(t, "first", "1")
	receiver := start(t, append(env, "POSTRIDER_CALLBACK_ADDR="+address)...)
	receiver.waitFor("receiving callbacks")
	post(t, first.callback+"/complete", "").wants(t, "by another relay", 204)
	waitUntilParked(t, db, "")

	enqueueWork(t, db, "second")
	second := w.next(t)
	second.wants(t, "second", "1")
	waitUntilParked(t, db, "leased")
	sender.signal(syscall.SIGTERM)
	if status := sender.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	post(t, second.callback+"/complete", "").wants(t, "after the sender's end", 204)
	waitUntilParked(t, db, "")
	if n := len(w.attempts); n != 0 {
		t.Errorf("%d deliveries more than were to be", n)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// listener reads a stream of events.
type listener struct {
	t      *testing.T
	events chan serverEvent
	last   string // id
	close  func()
}

type serverEvent struct{ id, kind, data string }

// listen opens a stream. Events are kept until they are asked for.
func listenTo(t *testing.T, base, query, last string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", base+"/api/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("a stream is answered %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	l := &listener{t: t, events: make(chan serverEvent, 10_000), close: func() { cancel(); res.Body.Close() }}
	t.Cleanup(l.close)
	go func() {
		defer close(l.events)
		var e serverEvent
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.kind = value
			case "data":
				e.data = value
				l.events <- e
				e = serverEvent{}
			}
		}
	}()
	return l
}

// next waits for an event of a kind, and passes over others.
func (l *listener) next(kind string) (e serverEvent) {
	l.t.Helper()
	timeout := time.After(2 * patience)
	for {
		select {
		case got, open := <-l.events:
			if !open {
				l.t.Fatalf("the stream has ended before a %s", kind)
			}
			if got.id != "" {
				l.last = got.id
			}
			if got.kind == kind {
				return got
			}
		case <-timeout:
			l.t.Fatalf("no %s came", kind)
		}
	}
}

type changeTold struct {
	Subscription, Topic, Key, Status, Reason string
	ID                                       int64
	Attempts                                 int
}

func (l *listener) change() (c changeTold) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.next("change").data), &c); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// Listeners get where everything stands, then what becomes of the messages that they ask about; who comes back gets what it has missed, or is told that
// nobody knows.
func TestListeners(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url, _ := webhookReceiver(t, func(r *http.Request) int {
		if r.Header.Get("postrider-topic") == "orders.bad" {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	db.Exec(t, `SELECT postrider.subscribe('hooks', '{orders.>}', $1, '{"max_attempts": 1}')`, url)
	p, c := apiSidecar(t, db)
	p.waitFor("delivering.*subscription=hooks")
	enqueue := func(topic, key string) int64 {
		return one[int64](t, db, fmt.Sprintf("SELECT postrider.enqueue('%s', '{}', key => '%s')", topic, key))
	}
	all, mine, dead := listenTo(t, c.base, "", ""), listenTo(t, c.base, "?key=mine&key=other", ""), listenTo(t, c.base, "?status=dead&subscription=hooks&topic=orders.*", "")
	if s := all.next("snapshot"); !strings.Contains(s.data, `"name":"hooks"`) {
		t.Errorf("the snapshot: %s", s.data)
	}
	mine.next("snapshot")
	dead.next("snapshot")
	first, bad, last := enqueue("orders.good", "yours"), enqueue("orders.bad", "yours"), enqueue("orders.good", "mine")
	got := map[int64]string{}
	for len(got) < 3 {
		one := all.change()
		got[one.ID] = one.Status
	}
	if got[first] != "delivered" || got[bad] != "dead" || got[last] != "delivered" {
		t.Errorf("told of %v", got)
	}
	if one := mine.change(); one.ID != last || one.Key != "mine" || one.Topic != "orders.good" {
		t.Errorf("who asked for a key got %+v", one)
	}
	if one := dead.change(); one.ID != bad || one.Attempts != 1 || !strings.Contains(one.Reason, "422") {
		t.Errorf("who asked for dead letters got %+v", one)
	}
	db.Exec(t, "SELECT postrider.pause('hooks', 'it moves')")
	for !strings.Contains(all.next("subscription").data, `"paused_reason":"it moves"`) {
	}
	db.Exec(t, "SELECT postrider.resume('hooks')")

	// One that comes back goes on where it was.
	mine.close()
	missed := enqueue("orders.good", "mine")
	for all.change().ID != missed {
	}
	again := listenTo(t, c.base, "?key=mine", mine.last)
	if e := <-again.events; e.kind != "change" || !strings.Contains(e.data, fmt.Sprintf(`"id":%d,`, missed)) {
		t.Errorf("who comes back gets %+v", e)
	}
	for _, last := range []string{"0e37df36-0000-0000-0000-000000000000:1", strings.Split(mine.last, ":")[0] + ":99999999", "nonsense"} {
		stranger := listenTo(t, c.base, fmt.Sprintf("?id=%d", missed), last)
		if e := <-stranger.events; e.kind != "gap" {
			t.Errorf("after %s comes %+v", last, e)
		}
		if e := stranger.next("snapshot"); !strings.Contains(e.data, fmt.Sprintf(`"messages":[{"id":%d,`, missed)) || !strings.Contains(e.data, `"status":"delivered"`) {
			t.Errorf("the snapshot of a message: %s", e.data)
		}
	}
	// The command prints them, a line each.
	printed := startWith(t, func(cmd *exec.Cmd) {
		cmd.Args, cmd.Stdout = []string{cmd.Args[0], "events", "--api", c.base, "--status", "dead", "--status", "cancelled"}, cmd.Stderr
	})
	for deadline := time.Now().Add(patience); ; { // it has to be listening first
		id := enqueue("orders.bad", "k")
		for all.change().ID != id {
		}
		if text, _ := printed.out.read(); strings.Contains(text, fmt.Sprintf("dead      hooks  %d  orders.bad  k  http", id)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("postrider events prints nothing")
		}
	}
	runCommand(t, nil, "", "events", "--api", c.base, "--status", "gone").fails(`status "gone": must be one of pending`)
	runCommand(t, nil, "", "events", "--api", c.base, "--token", "geheim").fails("--token holds something else than a reference").lacks("geheim")
	runCommand(t, nil, "", "events", "--api", "127.0.0.1:1").fails("--api 127.0.0.1:1: must look like http://127.0.0.1:8482")
	runCommand(t, nil, "", "events", "--api", "http://127.0.0.1:1").fails("--api http://127.0.0.1:1: ", "refused")
	for query, want := range map[string]string{"?status=gone": "must be one of pending", "?id=x": `id "x"`, "?topic=a..b": "topic", "?sub=hooks": "known are subscription"} {
		c.fails("GET", "/events"+query, "", 400, "invalid_request", want)
	}
}

// Whoever listens at one relay hears what others deliver, while they live.
// What is told of may be parked, and not in memory: who listens hears of its end all the same, and the relay goes on.
func TestListenersHearOfWhatIsParked(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "migrate").ok()
	db.Exec(t, `SELECT postrider.subscribe('mail', '{mail.>}', 'pull:', '{"worker_ttl": "10m", "ordering": "none"}')`)
	p, c := apiSidecar(t, db)
	p.waitFor("delivering.*subscription=mail")
	w, l := newJobWorker(t, c.base, "w"), listenTo(t, c.base, "?subscription=mail&topic=mail.>", "")
	l.next("snapshot")
	var told func(id int64, status string)
	leased := func() jobGiven {
		t.Helper()
		on(t, db.URL(), "enqueue", "mail.sent").ok()
		job := w.take(1)[0]
		if a := w.call("beat", map[string]any{"progress": []any{job.held()}}); a.status != 200 {
			t.Fatalf("progress is answered %+v", a)
		}
		told(job.ID, "leased")
		return job
	}
	told = func(id int64, status string) {
		t.Helper()
		if c := l.change(); c.ID != id || c.Status != status || c.Topic != "mail.sent" {
			t.Errorf("told %+v, want that %d of mail.sent is %s", c, id, status)
		}
	}
	job := leased()
	w.settle("ok", job.is("done"))
	told(job.ID, "delivered")
	job = leased()
	w.settle("ok", job.is("retry", "after", "24h"))
	told(job.ID, "retrying")
	on(t, db.URL(), "cancel", "mail", fmt.Sprint(job.ID)).ok()
	told(job.ID, "cancelled")
	w.settle("ok", leased().is("done")) // the relay is there
}

// What a receiver calls back is told, too.
func TestListenersHearOfCallbacks(t *testing.T) {
	t.Parallel()
	db, work, address := newDB(t), newWorkplace(t), freeAddress(t)
	p := start(t, append(asyncSidecar(t, db, work.url, address), "POSTRIDER_CALLBACK_ADDR="+address, "POSTRIDER_API_ADDR=127.0.0.1:0")...)
	p.waitFor("delivering.*subscription=default")
	l := listenTo(t, "http://"+p.waitFor(`serving the API".* address=(\S+)`)[1], "?topic=work.*", "")
	l.next("snapshot")
	for _, c := range []struct {
		what string
		want []string
	}{{"nothing yet", []string{"leased", "delivered"}}, {"hopeless", []string{"leased", "dead"}}, {"fails first", []string{"leased", "retrying", "leased", "delivered"}}} {
		enqueueWork(t, db, c.what)
		if a := work.next(t); c.what == "nothing yet" {
			waitUntilParked(t, db, "leased")
			work.call(a, "/complete", "", 204)
		}
		for _, status := range c.want {
			if told := l.change(); told.Status != status || told.Topic != "work.new" {
				t.Fatalf("%s: told %+v, want %s", c.what, told, status)
			}
		}
	}
}

func TestListenersHearOtherRelays(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	bases, owners := pair(t, db, true)
	l := listenTo(t, bases[0], "", "")
	l.next("snapshot")
	w := newJobWorker(t, bases[0], "w")
	away := "mail"
	if owners["mail"] == 0 {
		away = "sms"
	}
	// The connection to the other relay is made in the background.
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for e := range l.events {
			if e.kind == "change" && strings.Contains(e.data, `"subscription":"`+away+`"`) && strings.Contains(e.data, `"delivered"`) {
				return
			}
		}
	}()
	for deadline := time.Now().Add(4 * patience); ; {
		db.Exec(t, "SELECT postrider.enqueue($1, '{}')", away+".x")
		job := w.take(1, "from", []any{map[string]any{"subscription": away, "max": 1}})[0]
		w.settle("ok", job.is("done"))
		select {
		case <-heard:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is heard of the other relay")
		}
	}
}

// Five thousand listeners at a thousand changes a second, and one that reads nothing: the relay stays small, and all hear what they asked for.
func TestManyListeners(t *testing.T) {
	const many, messages = 5_000, 5_000
	db := newDB(t)
	url, received := webhookReceiver(t, func(*http.Request) int { return http.StatusOK })
	go func() {
		for {
			select {
			case <-received:
			case <-t.Context().Done():
				return
			}
		}
	}()
	db.Exec(t, `SELECT postrider.subscribe('hooks', '{orders.>}', $1)`, url)
	p := startPlain(t, "", "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_API_ADDR=127.0.0.1:0")
	c := &apiClient{t: t, base: "http://" + p.waitFor(`serving the API".* address=(\S+)`)[1]}
	p.waitFor("delivering.*subscription=hooks")
	heard, ready := listenToKeys(t, c.base, many)
	listenAndReadNothing(t, c.base)
	for i := range many {
		if !<-ready {
			t.Fatalf("listener %d has no snapshot", i)
		}
	}
	began := time.Now()
	produce(t, db, messages, many)
	eventuallyIn(t, 4*patience, "each has heard of its message", func() bool { return heard.Load() == messages })
	took := time.Since(began)
	if most := p.mostResident(); most > 200<<20 {
		t.Errorf("the relay took %d MiB", most>>20)
	} else {
		t.Logf("%d listeners heard %d changes within %s; the relay took %d MiB", many, messages, took.Round(time.Millisecond), most>>20)
	}
}

// listenAndReadNothing asks for all changes, and takes none.
func listenAndReadNothing(t *testing.T, base string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// listenToKeys opens streams, each for a key of its own, and counts what they hear.
func listenToKeys(t *testing.T, base string, many int) (heard *atomic.Int64, ready chan bool) {
	heard, ready = new(atomic.Int64), make(chan bool, many)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: -1}}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	some := make(chan struct{}, 64)
	for i := range many {
		all.Go(func() {
			some <- struct{}{}
			req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/api/v1/events?key=k-%d", base, i), nil)
			if err != nil {
				ready <- false
				return
			}
			res, err := client.Do(req)
			<-some
			if err != nil {
				ready <- false
				return
			}
			defer res.Body.Close()
			lines := bufio.NewScanner(res.Body)
			for lines.Scan() {
				switch lines.Text() {
				case "event: snapshot":
					ready <- true
				case "event: change":
					heard.Add(1)
				}
			}
		})
	}
	return heard, ready
}

// produce enqueues a thousand messages a second, of so many keys in turn.
func produce(t *testing.T, db *pgtest.DB, messages, keys int) {
	t.Helper()
	conn := db.Conn(t)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < messages; i += 100 {
		if _, err := conn.Exec(t.Context(), "SELECT count(postrider.enqueue('orders.x', '{}', key => 'k-' || g % $3)) FROM generate_series($1::int, $2::int) g", i, i+99, keys); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/internal/pgtest"
)

// The environment of a sidecar with one subscription, and nothing else.
func sidecar(url, sink, topics string) []string {
	return []string{"POSTRIDER_DATABASE_URL=" + url, "POSTRIDER_SINK=" + sink, "POSTRIDER_TOPICS=" + topics, "POSTRIDER_LEASE=1s"}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyIn(t, patience, what, ok)
}

// eventuallyIn is for what takes long where the machine has other work. It asks for a fifth of the time at most: what it waits for needs the machine, too.
func eventuallyIn(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		began := time.Now()
		if ok() {
			return
		}
		if began.After(deadline) {
			t.Fatalf("still not after %s: %s", limit, what)
		}
		time.Sleep(min(max(4*time.Since(began), 10*time.Millisecond), 200*time.Millisecond))
	}
}

// allDone is that the only subscription lags by nothing, and that no message waits for another attempt: what waits is parked, and lags no more.
const allDone = "SELECT lag_messages = 0 AND retrying + held = 0 FROM postrider.subscription_status"

// one asks as the superuser.
func one[T any](t *testing.T, db *pgtest.DB, sql string) T {
	t.Helper()
	return pgtest.One[T](t, db, sql)
}

func ask[T any](t *testing.T, pool *pgxpool.Pool, sql string) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func accepts(*http.Request) int { return http.StatusOK }

const slotsHere = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"

func TestKilledSidecarLeavesNoSlotAndLosesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pool := db.Pool(t)
	slots := func() (n int) {
		if err := pool.QueryRow(t.Context(), slotsHere).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	url, received := webhookReceiver(t, accepts)
	env := sidecar(db.URL(), url, "orders.>")
	p := start(t, env...)
	p.waitFor("following the stream")
	if n := slots(); n != 1 {
		t.Fatalf("%d slots while the stream is followed, want 1", n)
	}
	on(t, db.URL(), "enqueue", "orders.created", `{"n":1}`).ok()
	if got := receive(t, received); got != `{"n": 1}` {
		t.Errorf("received %q", got)
	}
	p.signal(syscall.SIGKILL)
	eventually(t, "the slot is gone", func() bool { return slots() == 0 })
	on(t, db.URL(), "enqueue", "orders.created", `{"n":2}`).ok()

	next := start(t, env...)
	for got := ""; got != `{"n": 2}`; { // the first may come again: its progress may not have been saved
		got = receive(t, received)
	}
	next.signal(syscall.SIGTERM)
	if status := next.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	if n := slots(); n != 0 {
		t.Errorf("%d slots after a clean stop", n)
	}
}

func TestSidecarToStandardOutput(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	var out lines
	cmd := command(t, append(sidecar(db.URL(), "stdout:", "orders.>"), "POSTRIDER_HTTP_ADDR=off"), "run")
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the schema is there", func() bool {
		return one[bool](t, db, "SELECT to_regclass('postrider.subscriptions') IS NOT NULL")
	})
	eventually(t, "so are all migrations: subscriptions are made after them", func() bool {
		return one[bool](t, db, "SELECT EXISTS (SELECT FROM postrider.subscriptions)")
	})
	on(t, db.URL(), "enqueue", "orders.created", `{"n":1}`, "--key", "k", "--header", "a=b").ok()
	eventually(t, "a line is written", func() bool { return strings.HasSuffix(out.String(), "\n") })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	var line struct {
		Topic, Key string
		Payload    struct{ N int }
		Headers    map[string]string
	}
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if line.Topic != "orders.created" || line.Key != "k" || line.Payload.N != 1 || line.Headers["a"] != "b" {
		t.Errorf("wrote %s", out.String())
	}
}

// lines is a buffer that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what was written so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startNATS runs a server with JetStream and the stream ORDERS of all subjects below "shop.".
func startNATS(t *testing.T, maxPayload int32) (url string, js jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
		NoSigs: true, NoLog: true, MaxPayload: maxPayload})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"shop.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return s.ClientURL(), js
}

// A message too large for NATS becomes dead with that reason, its neighbours pass, and it can be redriven.
func TestSidecarToNATS(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const room = 64 << 10
	url, js := startNATS(t, room)
	on(t, db.URL(), "enqueue", "orders.created", fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", room))).ok()
	on(t, db.URL(), "enqueue", "orders.created", `{"n":2}`).ok()
	p := start(t, sidecar(db.URL(), url+"?stream=ORDERS&prefix=shop.", "orders.>")...)
	stream, err := js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	var message *jetstream.RawStreamMsg
	eventually(t, "the small message is in the stream", func() bool {
		message, err = stream.GetLastMsgForSubject(t.Context(), "shop.orders.created")
		return err == nil
	})
	if string(message.Data) != `{"n": 2}` || message.Header.Get("Nats-Msg-Id") == "" {
		t.Errorf("the stream has %s with headers %v", message.Data, message.Header)
	}
	eventually(t, "the large message is dead", func() bool {
		return one[int](t, db, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 1
	})
	on(t, db.URL(), "parked", "list").ok("dead", "max_payload")
	on(t, db.URL(), "parked", "redrive", "default", "--all").ok("1 message")
	eventually(t, "it was tried again", func() bool {
		return one[bool](t, db, "SELECT updated_at > parked_at AND state = 'dead' FROM postrider.parked")
	})
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// Without logical replication a sidecar works on the timer, says why, and refuses only what was asked for by name.
func TestSidecarWithoutLogicalReplication(t *testing.T) {
	t.Parallel()
	db := pgtest.Servers(t, pgtest.Options{WALLevel: "replica"}).NewDB(t)
	url, received := webhookReceiver(t, accepts)
	env := sidecar(db.URL(), url, ">")
	p := start(t, env...)
	p.waitFor(`no stream.*wal_level is`)
	p.waitFor("msg=delivering")
	on(t, db.URL(), "enqueue", "a", `{"n":1}`).ok()
	if got := receive(t, received); got != `{"n": 1}` {
		t.Errorf("received %q", got)
	}
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	runCommand(t, append(env, "POSTRIDER_FOLLOW=stream", "POSTRIDER_HTTP_ADDR=off"), "", "run").failsRunning("follow stream", "ALTER SYSTEM SET wal_level = logical")
}

// failsRunning is fails for a command that logs before it fails.
func (r result) failsRunning(words ...string) {
	r.t.Helper()
	if r.status != 1 {
		r.t.Errorf("status %d, want 1", r.status)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			r.t.Errorf("no %q in\n%s", w, r.err)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/callback"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/internal/secret"
)

const callbackKey = "callbacks-are-signed-with-this-key"

// callbacksOf is the endpoint for callbacks, as a relay serves it, and its database.
type callbacksOf struct {
	db      *pgtest.DB
	urls    *callback.URLs
	handler *callback.Handler
	store   *callback.Store
	log     *lines
	metrics *prometheus.Registry
	looks   atomic.Int64
}

func newReferenceFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

// serveCallbacks connects as the database's URL says, after change if that is not nil.
func serveCallbacks(t *testing.T, db *pgtest.DB, change func(url string) string) *callbacksOf {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &callbacksOf{db: db, log: new(lines), metrics: prometheus.NewRegistry()}
	config := callback.Config{BaseURL: "http://" + listener.Addr().String() + "/public", Secrets: []string{newReferenceFile(t, callbackKey)}}
	if c.urls, err = callback.NewURLs(config); err != nil {
		t.Fatal(err)
	}
	url := db.URL()
	if change != nil {
		url = change(url)
	}
	if c.store, err = callback.NewStore(url, new(secret.Store)); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.handler = callback.NewHandler(c.urls, c.store, func() { c.looks.Add(1) }, log, c.metrics)
	c.handler.Patience = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- (&callbackService{listener, c.handler, c.store}).serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if strings.Contains(c.log.String(), callbackKey) {
			t.Errorf("the secret in the log:\n%s", c.log)
		}
	})
	return c
}

// subscribed has the subscription billing, whose next deliveries are to be recorded by hand.
func subscribed(t *testing.T) *pgtest.DB {
	t.Helper()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.subscribe('billing', '{>}', 'http://127.0.0.1:1')")
	return db
}

// enqueued returns the id of a new message.
func enqueued(t *testing.T, db *pgtest.DB) int64 {
	t.Helper()
	return one[int64](t, db, "SELECT postrider.enqueue('orders.created', '{}')")
}

// recordAccepted does what the relay does when a delivery was answered with 202.
func recordAccepted(t *testing.T, db *pgtest.DB, id, token int64, lease string) {
	t.Helper()
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, state, attempts, due, created_at, topic, payload, token, lease)
		VALUES ('billing', $1, 'leased', 1, clock_timestamp() + $3::text::interval,
			coalesce((SELECT created_at FROM postrider.outbox WHERE id = $1), now()), 'orders.created', '{}', $2, $3::text::interval)
		ON CONFLICT (subscription, id, created_at) DO UPDATE SET state = 'leased', attempts = postrider.parked.attempts + 1, due = excluded.due, token = excluded.token`,
		id, token, lease)
}

// accepted returns a message that waits for a callback for ten minutes.
func (c *callbacksOf) accepted(t *testing.T) (id, token int64) {
	t.Helper()
	id = enqueued(t, c.db)
	token = time.Now().UnixMicro()
	recordAccepted(t, c.db, id, token, "10 minutes")
	return id, token
}

// row is what became of a message.
func (c *callbacksOf) row(t *testing.T, id int64) (state, reason string, due time.Duration) {
	t.Helper()
	var seconds *float64
	err := c.db.Pool(t).QueryRow(t.Context(), `SELECT state, coalesce(reason, ''), extract(epoch FROM due - clock_timestamp())::float8
		FROM postrider.parked WHERE id = $1`, id).Scan(&state, &reason, &seconds)
	if err != nil {
		t.Fatal(err)
	}
	if seconds == nil {
		return state, reason, -1
	}
	return state, reason, time.Duration(*seconds * float64(time.Second))
}

// counted is about the metric.
func (c *callbacksOf) counted(t *testing.T, action, result string, want int) {
	t.Helper()
	w := httptest.NewRecorder()
	newHandler(&readiness{}, c.metrics).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if line := fmt.Sprintf("\npostrider_callbacks_total{action=%q,result=%q} %d\n", action, result, want); !strings.Contains(w.Body.String(), line) {
		t.Errorf("no %s in the metrics:\n%s", line, w.Body)
	}
}

// told is an answer.
type told struct {
	status     int
	body       string
	retryAfter string
}

var callbackClient = http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func post(t *testing.T, url, body string) told {
	t.Helper()
	return request(t, http.MethodPost, url, body)
}

func request(t *testing.T, method, url, body string) told {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := callbackClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 400 && method != http.MethodHead {
		var failure map[string]string
		if err := json.Unmarshal(text, &failure); err != nil || failure["error"] == "" || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d comes with %q, want an error in JSON", res.StatusCode, text)
		}
	}
	return told{res.StatusCode, strings.TrimSpace(string(text)), res.Header.Get("Retry-After")}
}

func (a told) wants(t *testing.T, what string, status int, words ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: the answer is %d %s, want %d", what, a.status, a.body, status)
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			t.Errorf("%s: no %q in %s", what, w, a.body)
		}
	}
}

package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/console"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// asked is a statement with its arguments.
type asked struct {
	sql  string
	args []any
}

// recorder notes what a page asks of the database, a list for each connection that it was lent.
type recorder struct {
	mu    sync.Mutex
	loans [][]asked
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loans == nil { // what it is asked for goes on
		r.loans = [][]asked{nil}
	}
	last := &r.loans[len(r.loans)-1]
	*last = append(*last, asked{q.SQL, q.Args})
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take returns what was asked since the last time, without and with where all subscriptions stand: this is read for all pages at once.
func (r *recorder) take() (pages, status []asked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, loan := range r.loans {
		if strings.Contains(fmt.Sprint(loan), "subscription_status") {
			status = loan
		} else {
			pages = append(pages, loan...)
		}
	}
	r.loans = nil
	return pages, status
}

// cost is what statements take, whatever the machine does beside.
type cost struct{ statements, blocks, rows int }

// plan is a node of a plan that was carried out.
type plan struct {
	Hit   int     `json:"Shared Hit Blocks"`
	Read  int     `json:"Shared Read Blocks"`
	Rows  float64 `json:"Actual Rows"`
	Loops float64 `json:"Actual Loops"`
	Plans []plan
}

func (p *plan) rows() (n float64) {
	n = p.Rows * p.Loops
	for i := range p.Plans {
		n += p.Plans[i].rows()
	}
	return n
}

// costOf carries statements out again, and counts.
func costOf(t *testing.T, conn *pgx.Conn, list []asked) (c cost) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	for _, q := range list {
		verb, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(q.sql)), " ")
		verb, _, _ = strings.Cut(verb, "\n")
		switch verb {
		case "BEGIN", "COMMIT", "ROLLBACK":
			continue
		case "SELECT", "WITH":
		default: // settings, for those that follow
			if _, err := tx.Exec(t.Context(), q.sql, q.args...); err != nil {
				t.Fatalf("%s: %v", q.sql, err)
			}
			continue
		}
		var text string
		if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+q.sql, q.args...).Scan(&text); err != nil {
			t.Fatalf("%s: %v", q.sql, err)
		}
		var explained []struct{ Plan plan }
		if err := json.Unmarshal([]byte(text), &explained); err != nil {
			t.Fatal(err)
		}
		c.statements++
		c.blocks += explained[0].Plan.Hit + explained[0].Plan.Read
		c.rows += int(explained[0].Plan.rows())
	}
	return c
}

// lookedAt makes the console of a database, which records.
func lookedAt(t *testing.T, db *pgtest.DB) (http.Handler, *recorder) {
	t.Helper()
	config, err := admin.ConnConfig(db.URL())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	config.Tracer = r
	conn, err := dbconn.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(conn) })
	var one sync.Mutex
	pages := console.New(console.Config{Log: slog.New(slog.DiscardHandler), Name: "relay", DB: func(ctx context.Context, f func(*dbconn.Conn) error) error {
		one.Lock()
		defer one.Unlock()
		r.mu.Lock()
		r.loans = append(r.loans, nil)
		r.mu.Unlock()
		return f(conn)
	}})
	t.Cleanup(pages.Close)
	gate, err := access.NewGate(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return gate.Wrap(pages), r
}

// TestLooksAreBounded: with a thousand subscriptions, some of them far behind, and tens of thousands of dead letters a page asks few questions,
// and each of them looks at little.
func TestLooksAreBounded(t *testing.T) {
	db := pgtest.Empty(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	for _, sql := range []string{
		`INSERT INTO postrider.outbox (topic, key, payload, xid, segment) SELECT 'a.' || i % 500, 'k-' || i, '1', (i / 20 + 100)::text::xid8, i / 7500 FROM generate_series(1, 60000) i`,
		`INSERT INTO postrider.subscriptions (name, topics, sink, started) SELECT 's' || i, CASE WHEN i % 2 = 0 THEN '{>}'::text[] ELSE ARRAY['a.' || i % 500] END, 'stdout:', '3:3:' FROM generate_series(1, 1000) i`,
		`INSERT INTO postrider.cursors (subscription, base) SELECT 's' || i, CASE WHEN i <= 40 THEN (i * 50 + 100) || ':' || (i * 50 + 100) || ':' ELSE '9000:9000:' END::pg_snapshot FROM generate_series(1, 1000) i`,
		`SELECT postrider.subscribe('work', '{a.1}', 'sql:', '{}', 'earliest')`,
		`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload, reason) SELECT 's900', id, 'dead', created_at, topic, payload, 'status ' || id % 50 FROM postrider.outbox WHERE id <= 45000`,
		`INSERT INTO postrider.attempts (subscription, id, created_at, attempt, started_at, took, outcome) SELECT 's' || i, o.id, o.created_at, 1, now(), '1s', 'rejected' FROM generate_series(2, 1000, 2) i, postrider.outbox o WHERE o.id = 59000`,
		`ANALYZE`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	pages, record := lookedAt(t, db)
	within := func(what string, is, most cost) {
		t.Logf("%s: %+v", what, is)
		if is.statements > most.statements || is.blocks > most.blocks || is.rows > most.rows || is.statements == 0 {
			t.Errorf("%s takes %+v, want %+v at most", what, is, most)
		}
	}
	var status []asked
	for path, most := range map[string]cost{
		"/subscriptions/s2":                       {6, 200, 200},
		"/subscriptions/s2/replay?start=earliest": {5, 400, 90_000},
		"/messages": {3, 100, 1000},
		"/messages?subscription=s900&status=dead":     {4, 400, 30_000},
		"/messages/59000":                             {6, 30_000, 6000},
		"/dead?subscription=s900":                     {6, 1200, 30_000},
		"/dead?subscription=s900&topic=a.7":           {6, 2000, 60_000},
		"/dead?subscription=s900&topic=a.499&key=k-2": {6, 2000, 60_000},
		"/relays": {4, 900, 30_000},
	} {
		answer := httptest.NewRecorder()
		pages.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil))
		if answer.Code != http.StatusOK {
			t.Errorf("%s answers %d", path, answer.Code)
		}
		own, of := record.take()
		if of != nil {
			status = of
		}
		costOf(t, conn, own) // the session's first, which looks functions up
		within(path, costOf(t, conn, own), most)
	}
	costOf(t, conn, status)
	within("where all stand", costOf(t, conn, status), cost{8, 13_000, 26_000})
}

// TestASearchKeepsNobodyWaiting: a page shows itself while a search takes its time, and then what was found, or what is wrong.
func TestASearchKeepsNobodyWaiting(t *testing.T) {
	db := pgtest.Empty(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `SELECT postrider.enqueue('a.b', '1', key => 'sought')`)
	pages, _ := lookedAt(t, db)
	server := httptest.NewServer(pages)
	defer server.Close()
	get := func(path string) *http.Response {
		t.Helper()
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	until := func(res *http.Response, word string) (text string) {
		t.Helper()
		one := make([]byte, 1)
		for !strings.Contains(text, word) {
			if _, err := io.ReadFull(res.Body, one); err != nil {
				t.Fatalf("no %q in %q: %v", word, text, err)
			}
			text += string(one)
		}
		return text
	}
	lock := func() pgx.Tx {
		t.Helper()
		tx, err := db.Conn(t).Begin(t.Context())
		if err == nil {
			_, err = tx.Exec(t.Context(), "LOCK TABLE postrider.outbox IN ACCESS EXCLUSIVE MODE")
		}
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	held := lock()
	res := get("/messages?key=sought")
	if text := until(res, "Searching"); res.StatusCode != 200 || !strings.Contains(text, `value="sought"`) {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := until(res, "</html>"); !strings.Contains(text, "a.b") || !strings.Contains(text, `href="/messages/1"`) {
		t.Errorf("it was not found: %s", text)
	}
	if text := until(get("/messages?key=nowhere"), "</html>"); !strings.Contains(text, "There is none.") {
		t.Errorf("it was found: %s", text)
	}
	// What is wrong with the question is known before.
	for path, status := range map[string]int{"/messages?key=sought&since=yesterday": 400, "/messages?key=sought&subscription=none": 400, "/messages?topic=a..b": 400} {
		if res := get(path); res.StatusCode != status {
			t.Errorf("%s answers %d, want %d", path, res.StatusCode, status)
		}
	}
	lock() // until the database is dropped
	res = get("/messages?key=sought")
	until(res, "Searching")
	db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'postrider.outbox'::regclass")
	if text := until(res, "</html>"); !strings.Contains(text, `role="alert"`) || strings.Contains(text, "There is none.") {
		t.Errorf("the search was ended, and the page says %s", text)
	}
}

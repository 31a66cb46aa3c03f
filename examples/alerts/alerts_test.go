package alerts

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
	"github.com/postrider/postrider/sinks/webhook"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// start runs the example until the test ends, and returns where it listens.
func start(t *testing.T, secret, chat string) (url string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed, so that alerts.py was not tried")
	}
	cmd := exec.CommandContext(t.Context(), python, "alerts.py")
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret, "CHAT_URL="+chat, "ADDR=127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(first), "listening on ")
	if err != nil || !ok {
		t.Fatalf("it says %q, %v", first, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, lines)
	}()
	t.Cleanup(func() {
		<-read
		_ = cmd.Wait() // it was killed
	})
	return url
}

// payloads are what the database makes of events, in their order.
func payloads(t *testing.T) (list []string) {
	t.Helper()
	conn := pgtest.New(t).Conn(t)
	for _, sql := range []string{
		`SELECT postrider.subscribe('billing', '{a}', 'stdout:')`,
		`SELECT postrider.subscribe('alerts', '{$postrider.>}', 'stdout:')`,
		`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload, attempts, reason)
			SELECT 'billing', n, 'dead', now(), 'orders.created', '1', 3, CASE WHEN n = 2 THEN 'no such "customer"' ELSE 'answered 422' END FROM generate_series(1, 12) n`,
		`SELECT postrider.tell_events()`,
		`SELECT postrider.pause('billing', 'books are closed')`,
		`SELECT postrider.tell_events()`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	rows, err := conn.Query(t.Context(), `SELECT payload::text FROM postrider.outbox WHERE event ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if rows.Err() != nil || len(list) != 2 {
		t.Fatalf("%d messages, %v", len(list), rows.Err())
	}
	return list
}

// What Postrider tells arrives in the chat as text; what the chat does not take is to come again, and nobody else can post there.
func TestEventsAreChat(t *testing.T) {
	posted, status := make(chan string, 10), make(chan int, 10)
	chat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var said struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s with %q: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		answer := http.StatusInternalServerError
		select {
		case answer = <-status:
		default:
			t.Errorf("nobody is to say: %s", said.Text)
		}
		if answer == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(answer)
		posted <- said.Text
	}))
	defer chat.Close()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("alerts in the chat, as a test has"))
	url := start(t, secret, chat.URL)
	sink := func(secret string) *webhook.Sink {
		t.Setenv("ALERTS_TEST_SECRET", secret)
		s, err := webhook.New(webhook.Config{URL: url, Options: webhook.Options{Secrets: []string{"env:ALERTS_TEST_SECRET"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	mine := sink(secret)
	send := func(s *webhook.Sink, payload string) error {
		return sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("$postrider.any.billing", payload))[0]
	}
	told := payloads(t)
	for i, want := range []string{
		"12 dead letters of billing: answered 422\n  1 orders.created, attempt 3\n  2 orders.created, attempt 3: no such \"customer\"\n  3 orders.created, attempt 3\n",
		"paused billing: books are closed",
	} {
		status <- http.StatusOK
		if err := send(mine, told[i]); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if got := <-posted; !strings.HasPrefix(got, want) || i == 0 && !strings.HasSuffix(got, "\n  and 2 more: postrider parked list --state dead") {
			t.Errorf("the chat has:\n%s\nwant:\n%s", got, want)
		}
	}
	status <- http.StatusTooManyRequests
	if kind, after := sinks.Classify(send(mine, told[1])); kind != sinks.KindUnavailable || after.Seconds() != 7 {
		t.Errorf("a chat that has enough: %v after %s, want that it comes again after 7 s", kind, after)
	}
	<-posted
	if err := send(sink("whsec_"+base64.StdEncoding.EncodeToString([]byte("somebody else's secret, of 32 by"))), told[1]); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a forged event: %v, want 401", err)
	}
	chat.Close()
	if kind, _ := sinks.Classify(send(mine, told[1])); kind == sinks.KindAccepted {
		t.Error("an event counts as delivered while the chat is away")
	}
	if len(posted) != 0 {
		t.Errorf("the chat has also: %s", <-posted)
	}
}

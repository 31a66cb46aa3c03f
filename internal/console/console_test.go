package console_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/browsertest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long something may take that takes a moment.
const patience = time.Minute

// world is a database, a relay that serves its console, receivers, and a browser: one for all tests.
type world struct {
	t       *testing.T
	db      *pgtest.DB
	link    *linktest.Link // between the relay and the database
	url     string         // the console's
	binary  string
	browser *browsertest.Browser
	hook    *receiver
	role    string // the relay's, which may do what relays need and no more
}

// receiver is where messages go.
type receiver struct {
	url    string
	answer atomic.Int64 // the status; 0: none, until it is another
	mu     sync.Mutex
	change chan struct{}
	got    map[string]int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{change: make(chan struct{}), got: map[string]int{}}
	r.answer.Store(200)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(r.receive)}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { r.say(200); server.Close(); <-done })
	r.url = "http://" + l.Addr().String()
	return r
}

func (r *receiver) receive(w http.ResponseWriter, q *http.Request) {
	io.Copy(io.Discard, q.Body)
	for q.URL.Path != "/always" {
		r.mu.Lock()
		change, answer := r.change, int(r.answer.Load())
		r.mu.Unlock()
		if answer != 0 {
			w.WriteHeader(answer)
			if answer != 200 {
				io.WriteString(w, `{"error":"no postal code"}`)
			}
			break
		}
		select {
		case <-change:
		case <-q.Context().Done():
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[q.URL.Path]++
}

// say answers with a status from now on; 0 lets those who ask wait.
func (r *receiver) say(status int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer.Store(status)
	close(r.change)
	r.change = make(chan struct{})
}

// newWorld starts all of it.
func newWorld(t *testing.T) *world {
	t.Helper()
	browser := browsertest.Start(t) // first: without one there is nothing to be done
	w := &world{t: t, browser: browser, db: pgtest.Empty(t), hook: newReceiver(t)}
	w.link = linktest.New(t, fmt.Sprintf("127.0.0.1:%d", w.db.Server.Port())).Link
	w.binary = filepath.Join(t.TempDir(), "postrider")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", w.binary, "../../cmd/postrider").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	w.command("migrate")
	w.role = w.db.Role(t, "relay", "REPLICATION")
	w.db.Exec(t, w.command("grants", "--relay", w.role))
	w.url = w.relay("relay-a")
	w.fill()
	return w
}

// command runs a command as the schema's owner, and returns what it prints.
func (w *world) command(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(w.binary, args...)
	cmd.Env = append(os.Environ(), "POSTRIDER_DATABASE_URL="+w.db.URL())
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("postrider %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// relay starts a relay that is ready, and returns the address of its console.
func (w *world) relay(name string, env ...string) string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(w.binary, "run")
	url := strings.Replace(w.db.RoleURL(w.role), fmt.Sprintf("127.0.0.1:%d", w.db.Server.Port()), w.link.Addr(), 1)
	cmd.Env = append(os.Environ(), append([]string{"POSTRIDER_DATABASE_URL=" + url, "POSTRIDER_API_ADDR=" + address, "POSTRIDER_HTTP_ADDR=off", "POSTRIDER_NAME=" + name}, env...)...)
	log, err := os.Create(filepath.Join(w.t.TempDir(), "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			w.t.Errorf("the relay ended with %v", err)
		}
		log.Close()
		if text, _ := os.ReadFile(log.Name()); w.t.Failed() {
			w.t.Logf("what %s wrote, its end:\n%s", name, text[max(0, len(text)-8<<10):])
		}
	})
	base := "http://" + address
	w.until("the console answers", func() bool {
		r, err := http.Get(base + "/assets/icon.svg")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	return base
}

// until waits for something that nobody tells of.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: it does not come to that", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fill makes subscriptions of each kind, and messages.
func (w *world) fill() {
	w.t.Helper()
	conn := w.db.Conn(w.t)
	w.until("the relay relays", func() bool { // no earlier: the schema is being made
		var relays int
		return conn.QueryRow(w.t.Context(), "SELECT count(*) FROM postrider.relays").Scan(&relays) == nil && relays > 0
	})
	for _, sql := range []string{
		"SELECT postrider.subscribe('billing', '{orders.>}', '" + w.hook.url + "/always')",
		"SELECT postrider.subscribe('shipping', '{parcels.>}', '" + w.hook.url + "/shipping', '{\"max_attempts\": 1, \"on_dead\": \"hold\"}')",
		"SELECT postrider.subscribe('search', '{products.>}', 'http://127.0.0.1:1/none')",
		"SELECT postrider.subscribe('audit', '{orders.>}', '" + w.hook.url + "/always'); SELECT postrider.pause('audit', 'the store is being moved until Monday')", // at once
		"SELECT postrider.subscribe('mail', '{mail.>}', 'pull:', '{\"worker_ttl\": \"10m\"}')",
		"SELECT postrider.subscribe('payments', '{payments.>}', 'sql:')",
		"SELECT postrider.put_schedule('nightly', '0 3 * * *', 'reports.nightly')",
		`SELECT postrider.enqueue('orders.created', '{"order": {"id": 4711, "total": 12.5}}', key => 'customer-7', headers => '{"tenant": "eu-1"}')`,
		"SELECT postrider.enqueue('products.changed', '{}', key => 'p-1')",
	} {
		w.db.Exec(w.t, sql)
	}
}

// page opens a tab on a path.
func (w *world) page(t *testing.T, path string) *browsertest.Page {
	t.Helper()
	p := w.browser.Page(t, 1280, 900)
	if status := p.Open(w.url + path); status != 200 {
		t.Fatalf("%s answers %d", path, status)
	}
	return p
}

package contract

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
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// relay is a real process with a database of its own, in which there is something of everything.
type relay struct {
	base   string
	tokens map[string]string // by role
	client *http.Client
}

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "postrider-contract-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "postrider")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./cmd/postrider")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func startRelay(t *testing.T) *relay {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.Empty(t) // a relay refuses a copy
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "SELECT postrider.subscribe('billing', '{orders.>}', 'http://127.0.0.1:1', '{\"max_attempts\": 1}')")
	db.Exec(t, "SELECT postrider.subscribe('mail', '{mail.>}', 'pull:')")
	db.Exec(t, "SELECT postrider.subscribe('"+kept+"', '{mail.>}', 'pull:')")
	db.Exec(t, "SELECT postrider.put_scope('subscription', '"+kept+"', '"+kept+"')") // nor does one that prunes
	db.Exec(t, "SELECT count(postrider.enqueue(CASE WHEN g % 2 = 0 THEN 'orders.created' ELSE 'mail.sent' END, to_jsonb(g), key => 'k-' || g % 5)) FROM generate_series(1, 100) g")
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, topic, key, payload, reason)
		SELECT 'billing', id, created_at, 'dead', 1, topic, key, payload, 'status 400' FROM postrider.outbox WHERE topic = 'orders.created' AND id < 60`)
	address := freeAddress(t)
	r := &relay{base: "http://" + address, client: &http.Client{Timeout: time.Minute}, tokens: map[string]string{}}
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_HTTP_ADDR=off", "POSTRIDER_API_ADDR=" + address, "POSTRIDER_NAME=relay"}
	var list []string
	for _, role := range []string{"viewer", "operator", "admin", "worker"} {
		r.tokens[role] = role + "-0123456789abcdef"
		variable := strings.ToUpper(role) + "_TOKEN"
		env = append(env, variable+"="+r.tokens[role])
		list = append(list, role+":"+role+"=env:"+variable)
	}
	r.run(t, path, append(env, "POSTRIDER_API_TOKENS="+strings.Join(list, ",")))
	return r
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts the process, and waits until it answers.
func (r *relay) run(t *testing.T, path string, env []string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, "run")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its database goes, too
		<-ended
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"panic", "a call of the API failed", "DATA RACE"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("the log has %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("the end of the relay's log:\n%s", text[max(len(text)-8000, 0):])
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		req, err := http.NewRequestWithContext(t.Context(), "GET", r.base+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.tokens["viewer"])
		res, err := r.client.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the relay ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the relay does not answer: %v", err)
		}
	}
}

func (r *relay) send(t *testing.T, q request) response {
	t.Helper()
	res, err := r.client.Do(q.http(t, r))
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return response{res.StatusCode, res.Header, text}
}

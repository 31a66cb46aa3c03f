package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is when a wait is given up. A relay looks at the database every quarter of a minute, and less often where that is slow.
const patience = 4 * time.Minute

// relay is a real process, with a database and receivers of its own.
type relay struct {
	db        *pgtest.DB
	base, api string
	client    *http.Client
	stop      func()
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postrider")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./cmd/postrider")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	db := pgtest.Servers(t, pgtest.Options{}).NewDB(t) // others would write WAL that its slot holds; and a relay refuses a copy
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	r := &relay{db: db, client: &http.Client{Timeout: time.Minute}}
	lines := r.run(t, path, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_API_ADDR=127.0.0.1:0", "POSTRIDER_NAME=one",
		"POSTRIDER_WAL_BUDGET=64MiB")
	r.base, r.api = told(t, lines, `serving /healthz, /readyz and /metrics" address=(\S+)`), told(t, lines, `serving the API" address=(\S+)`)
	return r
}

// told waits for the address that a line of the log tells.
func told(t *testing.T, file, line string) string {
	t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(line).FindSubmatch(text); found != nil {
			return "http://" + string(found[1])
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no line %s in the log", line)
	return ""
}

// run starts the process, and returns its log.
func (r *relay) run(t *testing.T, path string, env ...string) string {
	t.Helper()
	lines, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	cmd := exec.Command(path, "run")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = lines, lines
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r.stop = func() {
		_ = cmd.Process.Kill() // it may have ended
		err := <-ended
		ended <- err
	}
	t.Cleanup(func() {
		r.stop()
		text, err := os.ReadFile(lines.Name())
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the relay's log:\n%s", text[max(len(text)-8000, 0):])
		}
	})
	return lines.Name()
}

// scrape returns what /metrics tells; nil if there is no answer.
func (r *relay) scrape(t *testing.T) page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %d, %v, %s", res.StatusCode, err, text)
	}
	return parse(t, text)
}

// expected is a series whose value satisfies a condition.
type expected struct {
	name  string
	pairs []string
	is    func(float64) bool
}

func exactly(v float64, name string, pairs ...string) expected {
	return expected{name, pairs, func(is float64) bool { return is == v }}
}

func above(v float64, name string, pairs ...string) expected {
	return expected{name, pairs, func(is float64) bool { return is > v }}
}

// shows scrapes until all is as expected.
func (r *relay) shows(t *testing.T, list ...expected) page {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		p := r.scrape(t)
		var missing []string
		for _, e := range list {
			if v, ok := p.of(e.name, e.pairs...); !ok || !e.is(v) {
				missing = append(missing, fmt.Sprintf("%s %q is %v (there is one: %t)", e.name, e.pairs, v, ok))
			}
		}
		if len(missing) == 0 {
			return p
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %s: %s", patience, strings.Join(missing, "; "))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// work takes jobs of a pull: subscription as a worker does, and settles so many.
func (r *relay) work(t *testing.T, subscription string, jobs int) {
	t.Helper()
	for jobs > 0 {
		var taken struct {
			Jobs []struct {
				ID    json.Number
				Token string
			}
		}
		r.call(t, "take", map[string]any{"worker": "w", "incarnation": "1", "from": []map[string]any{{"subscription": subscription, "max": jobs}}, "wait": "5s"}, &taken)
		var items []map[string]any
		for _, j := range taken.Jobs {
			items = append(items, map[string]any{"subscription": subscription, "id": j.ID, "token": j.Token, "outcome": "done"})
		}
		jobs -= len(items)
		if len(items) > 0 {
			r.call(t, "settle", map[string]any{"worker": "w", "incarnation": "1", "items": items}, nil)
		}
	}
}

func (r *relay) call(t *testing.T, verb string, body map[string]any, answer any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.Post(r.api+"/api/v1/jobs/"+verb, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err = io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v, %s", verb, res.StatusCode, err, text)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatal(err)
		}
	}
}

// receiver answers each message by the last token of its topic: bad ones are refused for good, busy ones for now, all others accepted.
func receiver(t *testing.T, start func(*httptest.Server)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch topic := r.Header.Get("postrider-topic"); {
		case strings.HasSuffix(topic, ".bad"):
			w.WriteHeader(http.StatusBadRequest)
		case strings.HasSuffix(topic, ".busy"):
			w.WriteHeader(http.StatusConflict)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told of those who do not trust it
	start(server)
	t.Cleanup(server.Close)
	return server.URL
}

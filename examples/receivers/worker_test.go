package receivers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
	"github.com/postrider/postrider/sinks/webhook"
)

// callbacks is what a relay is asked, here at /<row>/<action>.
type callbacks struct {
	url      string
	mu       sync.Mutex
	statuses map[string][]int // next answers by path; none: 204
	got      chan string      // path and body
}

func newCallbacks(t *testing.T) *callbacks {
	c := &callbacks{statuses: map[string][]int{}, got: make(chan string, 100)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		c.mu.Lock()
		status := http.StatusNoContent
		if next := c.statuses[r.URL.Path]; len(next) > 0 {
			status, c.statuses[r.URL.Path] = next[0], next[1:]
		}
		c.mu.Unlock()
		c.got <- strings.TrimSpace(r.URL.Path + " " + string(body))
		if status == http.StatusTooEarly {
			w.Header().Set("Retry-After", "0.01")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

// next returns the next callback that is not a heartbeat.
func (c *callbacks) next(t *testing.T) (got string, heartbeats int) {
	t.Helper()
	for {
		select {
		case got = <-c.got:
			if !strings.Contains(got, "/heartbeat") {
				return got, heartbeats
			}
			heartbeats++
		case <-time.After(patience):
			t.Fatal("nobody calls back")
		}
	}
}

func TestWorkerCallsBack(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed, so that python/worker.py was not tried")
	}
	t.Setenv("LEASE", "1")
	secret, c := newSecret(t), newCallbacks(t)
	p := starter{"python3", "python/worker.py"}.run(t, secret)
	t.Setenv("RECEIVERS_TEST_SECRETS", secret)
	s, err := webhook.New(webhook.Config{
		URL: p.url, Options: webhook.Options{Async: true, Secrets: []string{"env:RECEIVERS_TEST_SECRETS"}},
		CallbackURL: func(_ string, row, _ int64) string { return fmt.Sprintf("%s/%d", c.url, row) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, one := range []struct {
		payload  string
		statuses []int
		action   string
		says     string
	}{
		{`{"n": 1}`, nil, "/complete", "completed "},
		{`{"n": 2}`, []int{425, 503, 425}, "/complete", "completed "},
		{`{"fail": "no such shop"}`, nil, `/fail {"reason": "no such shop", "retry_after": 30}`, "failed "},
		{`{"seconds": 1.2}`, nil, "/complete", "completed "},
		{`{"n": 3}`, []int{410}, "/complete", "over "},
	} {
		d := sinktest.NewDelivery("orders.created", one.payload)
		path, _, _ := strings.Cut(one.action, " ")
		c.mu.Lock()
		c.statuses[fmt.Sprintf("/%d%s", d.ID, path)] = one.statuses
		c.mu.Unlock()
		err := sinktest.Deliver(t.Context(), s, d)[0]
		if out, ok := errors.AsType[*sinks.OutcomeError](err); !ok || out.Kind != sinks.KindLeased || out.After != time.Second {
			t.Fatalf("%s: %v, want that it is leased for a second", one.payload, err)
		}
		for range max(1, len(one.statuses)) {
			got, heartbeats := c.next(t)
			if want := fmt.Sprintf("/%d%s", d.ID, one.action); got != want {
				t.Errorf("%s: the callback is %s, want %s", one.payload, got, want)
			}
			if strings.Contains(one.payload, "seconds") && heartbeats == 0 {
				t.Errorf("%s: no heartbeat", one.payload)
			}
		}
		if len(one.statuses) > 1 {
			c.next(t) // the one that counts
		}
		p.wants(t, one.says+d.MessageID)
	}
	wantRefused(t, "unsigned", sinktest.Deliver(t.Context(), open(t, p.url, webhook.Options{Async: true}), sinktest.NewDelivery("a", `{}`))[0])
}

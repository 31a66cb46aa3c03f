package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// jobWorker is a worker as somebody would write it with any HTTP client.
type jobWorker struct {
	t                 *testing.T
	base              string
	name, incarnation string
	bearer            string // empty: none
}

type jobGiven struct {
	Subscription string          `json:"subscription"`
	ID           int64           `json:"id"`
	Token        string          `json:"token"`
	Topic        string          `json:"topic"`
	Key          string          `json:"key"`
	Payload      json.RawMessage `json:"payload"`
	Body         []byte          `json:"body"`
	Attempt      int             `json:"attempt"`
	MaxAttempts  int             `json:"max_attempts"`
	Deadline     string          `json:"deadline"`
}

// held names the job, as requests do.
func (j jobGiven) held() map[string]any {
	return map[string]any{"subscription": j.Subscription, "id": j.ID, "token": j.Token}
}

// is is an item of a settle.
func (j jobGiven) is(outcome string, more ...any) map[string]any {
	item := j.held()
	item["outcome"] = outcome
	for i := 0; i < len(more); i += 2 {
		item[more[i].(string)] = more[i+1]
	}
	return item
}

// jobsAnswer is any answer.
type jobsAnswer struct {
	status  int
	Jobs    []jobGiven `json:"jobs"`
	Items   []struct{ Answer string }
	Lost    []jobGiven `json:"lost"`
	Cancel  []jobGiven `json:"cancel"`
	Quiet   *bool      `json:"quiet"`
	Code    string     `json:"code"`
	Detail  string     `json:"detail"`
	header  http.Header
	answers string // of the items
}

// jobsSidecar is a relay with the subscription mail, whose workers ask at the address in its log.
func jobsSidecar(t *testing.T, db *pgtest.DB, more ...string) (*process, string) {
	t.Helper()
	return forWorkers(start(t, append(jobsEnv(db), more...)...))
}

func jobsEnv(db *pgtest.DB) []string {
	return append(sidecar(db.URL(), "pull:", "mail.>"), "POSTRIDER_SUBSCRIPTION=mail", "POSTRIDER_API_ADDR=127.0.0.1:0", "POSTRIDER_BACKOFF_INITIAL=100ms")
}

// forWorkers returns a relay with the address at which its workers ask.
func forWorkers(p *process) (*process, string) {
	p.t.Helper()
	p.waitFor("delivering.*subscription=mail")
	return p, "http://" + p.waitFor(`serving the API".* address=(\S+)`)[1]
}

func newJobWorker(t *testing.T, base, name string) *jobWorker {
	return &jobWorker{t: t, base: base, name: name, incarnation: name + "-started-once"}
}

// call makes a request with the worker's name.
func (w *jobWorker) call(verb string, body map[string]any) jobsAnswer {
	w.t.Helper()
	body["worker"], body["incarnation"] = w.name, w.incarnation
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return askJobs(w.t, w.base+"/api/v1/jobs/"+verb, text, func(r *http.Request) {
		if w.bearer != "" {
			r.Header.Set("Authorization", "Bearer "+w.bearer)
		}
	})
}

// askJobs makes any request.
func askJobs(t *testing.T, url string, body []byte, change func(*http.Request)) (a jobsAnswer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(req)
	}
	res, err := jobsClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%d %q: %v", res.StatusCode, text, err)
	}
	a.status, a.header = res.StatusCode, res.Header
	var answers []string
	for _, i := range a.Items {
		answers = append(answers, i.Answer)
	}
	a.answers = strings.Join(answers, ",")
	switch problem := res.Header.Get("Content-Type") == "application/problem+json"; {
	case problem != (a.status >= 400) || problem && (a.Code == "" || a.Detail == ""):
		t.Errorf("%d comes as %s: %s", a.status, res.Header.Get("Content-Type"), text)
	case !problem && a.Quiet == nil:
		t.Errorf("an answer does not say whether the worker shall be quiet: %s", text)
	}
	return a
}

var jobsClient = http.Client{Timeout: 2 * patience}

// take asks for jobs, and wants so many.
func (w *jobWorker) take(n int, more ...any) []jobGiven {
	w.t.Helper()
	body := map[string]any{"from": []any{map[string]any{"subscription": "mail", "max": 10}}, "wait": "20s"}
	for i := 0; i < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	var jobs []jobGiven
	for { // an answer has what is there: others may come a moment later
		a := w.call("take", body)
		jobs = append(jobs, a.Jobs...)
		if a.status != 200 || len(a.Jobs) == 0 && n > 0 || len(jobs) > n {
			w.t.Fatalf("take: %d %s: %d jobs, want %d", a.status, a.Detail, len(jobs), n)
		}
		if len(jobs) == n {
			return jobs
		}
	}
}

// settle wants an answer for each item.
func (w *jobWorker) settle(want string, items ...map[string]any) {
	w.t.Helper()
	if a := w.call("settle", map[string]any{"items": items}); a.status != 200 || a.answers != want {
		w.t.Fatalf("settle: %d %s: %q, want %q", a.status, a.Detail, a.answers, want)
	}
}

func enqueueJob(t *testing.T, db *pgtest.DB, n int, key string) {
	t.Helper()
	db.Exec(t, "SELECT postrider.enqueue('mail.welcome', $1::text::jsonb, key => nullif($2, ''))", fmt.Sprintf(`{"n": %d}`, n), key)
}

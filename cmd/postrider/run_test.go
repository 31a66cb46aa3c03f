package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

const patience = time.Minute

// process is a postrider that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output
	done chan error
}

// output collects what a process writes to standard error, and wakes those who wait for something in it.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(b)
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String(), o.changed
}

// start runs `postrider run`, which is killed when the test ends if it still runs then.
func start(t *testing.T, env ...string) *process {
	t.Helper()
	return startWith(t, func(*exec.Cmd) {}, env...)
}

// startWith changes the command first.
func startWith(t *testing.T, change func(*exec.Cmd), env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(t, append([]string{"POSTRIDER_HTTP_ADDR=127.0.0.1:0"}, env...), "run"), done: make(chan error, 1),
		out: &output{changed: make(chan struct{})}}
	p.cmd.Stderr = p.out
	change(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.done <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-ended
		if text, _ := p.out.read(); t.Failed() {
			t.Logf("what %d wrote, its end:\n%s", p.cmd.Process.Pid, text[max(0, len(text)-8<<10):])
		}
	})
	return p
}

// startPlain is start without the race detector, which takes several times the memory, behind what a shell does first, if anything.
func startPlain(t *testing.T, shell string, env ...string) *process {
	t.Helper()
	plain := plainProgram(t)
	return startWith(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args[0] = plain, plain
		if shell != "" {
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", shell + `exec "$0" "$@"`}, cmd.Args...)
		}
	}, env...)
}

// waitFor returns the first match of a regular expression in the log.
func (p *process) waitFor(pattern string) []string {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		text, changed := p.out.read()
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("no %q in the log:\n%s", pattern, text)
		}
	}
}

// ends waits for the end and returns the exit status.
func (p *process) ends() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		text, _ := p.out.read()
		p.t.Fatalf("the process does not end:\n%s", text)
		return 0
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) get(path string) (int, string) {
	p.t.Helper()
	address := p.waitFor(`address=(\S+)`)[1]
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestRunServesAndStops(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=orders.>, payments.*", "POSTRIDER_LANES=2")
	p.waitFor(`the schema is up to date now`)
	p.waitFor(`subscription created" subscription=default topics="\[orders.> payments.\*\]" sink=stdout:`)
	p.waitFor(`msg=relaying`)
	if status, body := p.get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	if status, body := p.get("/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d %q", status, body)
	}
	if status, _ := p.get("/nothing"); status != 404 {
		t.Errorf("/nothing: %d", status)
	}
	deadline := time.Now().Add(patience)
	for status, body := p.get("/readyz"); status != 200 || body != "ready\n"; status, body = p.get("/readyz") {
		if time.Now().After(deadline) {
			t.Fatalf("/readyz: %d %q", status, body)
		}
	}
	on(t, db.URL(), "subs", "list").ok("default active orders.>,payments.* stdout: lanes=2")
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		text, _ := p.out.read()
		t.Errorf("status %d after SIGTERM:\n%s", status, text)
	}
	p.waitFor("msg=stopped")
}

func TestRunAppliesTheFile(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_CONFIG=" + writeFile(t, twoSubscriptions), "POSTRIDER_LOG_FORMAT=json",
		"POSTRIDER_SINK=https://host/?token=geheim", "POSTRIDER_TOPICS=a", "POSTRIDER_SUBSCRIPTION=own"}
	run := func(wants ...string) {
		t.Helper()
		p := start(t, env...)
		for _, want := range wants {
			p.waitFor(want)
		}
		p.waitFor(`"msg":"relaying"`)
		p.signal(os.Interrupt)
		if status := p.ends(); status != 0 {
			t.Errorf("status %d", status)
		}
		if text, _ := p.out.read(); strings.Contains(text, "geheim") || !json.Valid([]byte(strings.SplitN(text, "\n", 2)[0])) {
			t.Errorf("a secret in the log, or no JSON:\n%s", text)
		}
	}
	run(`"msg":"subscription created","subscription":"billing"`, `"subscription":"bus"`, `"subscription":"own","topics":\["a"\],"sink":"https://host/\?token=xxxxx"`)
	run(`"msg":"subscription unchanged","subscription":"billing"`)
	env = append(env, "POSTRIDER_MAX_ATTEMPTS=3")
	run(`"msg":"subscription changed: settings","subscription":"own"`)
}

func TestRunWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := start(t, fmt.Sprintf("POSTRIDER_DATABASE_URL=postgres://u:geheim@%s/x?sslmode=disable", address))
	p.waitFor("the database cannot be used yet")
	if status, body := p.get("/readyz"); status != 503 || !strings.Contains(body, "cannot be used yet") || strings.Contains(body, "geheim") {
		t.Errorf("/readyz: %d %q", status, body)
	}
	if status, _ := p.get("/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	if text, _ := p.out.read(); strings.Contains(text, "geheim") {
		t.Errorf("a secret in the log:\n%s", text)
	}
}

// The database comes up while the relay waits: behind a port that nobody listens on at first.
func TestRunGoesOnWhenTheDatabaseIsThere(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := start(t, "POSTRIDER_DATABASE_URL="+strings.Replace(db.URL(), fmt.Sprintf("127.0.0.1:%d", db.Server.Port()), address, 1))
	p.waitFor("the database cannot be used yet")
	forward(t, address, fmt.Sprintf("127.0.0.1:%d", db.Server.Port()))
	p.waitFor("those of the database are delivered")
	p.waitFor("msg=relaying")
}

// forward passes connections on until the test ends.
func forward(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			wg.Go(func() { io.Copy(server, client); server.Close() })
			wg.Go(func() { io.Copy(client, server); client.Close() })
		}
	})
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	db, empty := newDB(t), pgtest.Empty(t)
	limited := empty.Role(t, "limited", "")
	url := "POSTRIDER_DATABASE_URL=" + db.URL()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sink := func(s string) []string { return []string{url, "POSTRIDER_TOPICS=>", "POSTRIDER_SINK=" + s} }
	for name, c := range map[string]struct {
		env   []string
		wants []string
	}{
		"no database":      {nil, []string{"no database: set POSTRIDER_DATABASE_URL"}},
		"bad URL":          {[]string{"POSTRIDER_DATABASE_URL=postgres://u:geheim@h:x/"}, []string{"database URL"}},
		"missing database": {[]string{"POSTRIDER_DATABASE_URL=" + strings.Replace(db.URL(), db.Name, "no_such_db", 1)}, []string{`"no_such_db" does not exist`}},
		"unknown role":     {[]string{"POSTRIDER_DATABASE_URL=" + db.RoleURL("nobody_here")}, []string{`role "nobody_here" does not exist`}},
		"no schema":        {[]string{"POSTRIDER_DATABASE_URL=" + empty.URL(), "POSTRIDER_MIGRATE=false"}, []string{"holds no Postrider schema: run `postrider migrate`"}},
		"may not migrate":  {[]string{"POSTRIDER_DATABASE_URL=" + empty.RoleURL(limited)}, []string{"run `postrider migrate` as the schema's owner", limited}},
		"unknown scheme":   {sink("gopher://h"), []string{"POSTRIDER_SINK: sink gopher://h: the scheme \"gopher\" is unknown; known are amqp, amqps, http, https, kafka, kafkas, mqtt, mqtts, nats, postgres, postgresql, pubsub, pull, redis, rediss, sns, sql, sqs, stdout, tls"}},
		"no scheme":        {sink("localhost"), []string{"POSTRIDER_SINK", "must be a URL"}},
		"bad webhook":      {sink("https://u:geheim@/x"), []string{"POSTRIDER_SINK: sink https://xxxxx@/x"}},
		"wrong option":     {append(sink("https://h"), `POSTRIDER_OPTIONS={"bearer":"geheim"}`), []string{"POSTRIDER_OPTIONS: bearer holds something else than a reference"}},
		"option of none":   {append(sink("stdout:"), `POSTRIDER_OPTIONS={"rate":1}`), []string{"POSTRIDER_OPTIONS: stdout takes none"}},
		"both backoffs":    {append(sink("stdout:"), "POSTRIDER_BACKOFF_SCHEDULE=5s", "POSTRIDER_BACKOFF_MAX=1h"), []string{"POSTRIDER_BACKOFF_SCHEDULE: backoff_schedule [5s]: excludes"}},
		"topic with space": {[]string{url, "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=orders created,b"}, []string{"POSTRIDER_TOPICS", `"orders created"`}},
		"sink alone":       {[]string{url, "POSTRIDER_SINK=stdout:"}, []string{"POSTRIDER_TOPICS is not"}},
		"topics alone":     {[]string{url, "POSTRIDER_TOPICS=a"}, []string{"POSTRIDER_SINK is not"}},
		"bad start":        {append(sink("stdout:"), "POSTRIDER_START=soon"), []string{`POSTRIDER_START: start "soon"`}},
		"bad name":         {append(sink("stdout:"), "POSTRIDER_SUBSCRIPTION=My Sub"), []string{`POSTRIDER_SUBSCRIPTION: name "My Sub"`}},
		"bad ordering":     {append(sink("stdout:"), "POSTRIDER_ORDERING=none at all"), []string{`POSTRIDER_ORDERING: ordering "none at all"`}},
		"too many lanes":   {append(sink("stdout:"), "POSTRIDER_LANES=99999"), []string{`POSTRIDER_LANES: lanes 99999`}},
		"no file":          {[]string{url, "POSTRIDER_CONFIG=/nowhere.yaml"}, []string{"POSTRIDER_CONFIG: open /nowhere.yaml"}},
		"unknown key":      {[]string{url, "POSTRIDER_CONFIG=" + writeFile(t, "subscriptions:\n  - nam: x\n")}, []string{`subs.yaml:2: unknown key "nam"`}},
		"name twice":       {append(sink("stdout:"), "POSTRIDER_SUBSCRIPTION=bus", "POSTRIDER_CONFIG="+writeFile(t, twoSubscriptions)), []string{"POSTRIDER_SUBSCRIPTION=bus"}},
		"port taken":       {[]string{url, "POSTRIDER_HTTP_ADDR=" + taken.Addr().String()}, []string{"POSTRIDER_HTTP_ADDR=127.0.0.1:", "address already in use"}},
	} {
		t.Run(name, func(t *testing.T) {
			env := append([]string{"POSTRIDER_HTTP_ADDR=off"}, c.env...)
			r := runCommand(t, env, "", "run").lacks("geheim")
			if r.status != 1 || strings.Count(r.err, "postrider: ") != 1 {
				t.Errorf("status %d:\n%s", r.status, r.err)
			}
			for _, want := range c.wants {
				if !strings.Contains(r.err, want) {
					t.Errorf("no %q in\n%s", want, r.err)
				}
			}
		})
	}
}

// With a schema that is current, a relay needs no right to create anything.
func TestRunAsTheRelaysRole(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "relay", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--relay", role).ok().out)
	p := start(t, "POSTRIDER_DATABASE_URL="+db.RoleURL(role), "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=>")
	p.waitFor("subscription created")
	p.waitFor("msg=relaying")
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// webhookReceiver answers with what answer returns, and hands each body to received.
func webhookReceiver(t *testing.T, answer func(r *http.Request) int) (url string, received <-chan string) {
	t.Helper()
	bodies := make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		w.WriteHeader(answer(r))
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "http://" + l.Addr().String() + "/hook", bodies
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case body := <-from:
		return body
	case <-time.After(patience):
		t.Fatal("nothing is received")
		return ""
	}
}

// With the database, the sink and the topics alone, what is inserted is delivered, and what was there before the start too.
func TestRunDelivers(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	on(t, db.URL(), "migrate").ok()
	on(t, db.URL(), "enqueue", "orders.created", `{"n":1}`).ok()
	url, received := webhookReceiver(t, func(*http.Request) int { return 200 })
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SINK="+url, "POSTRIDER_TOPICS=orders.>")
	if got := receive(t, received); got != `{"n": 1}` {
		t.Errorf("received %q", got)
	}
	db.Exec(t, `INSERT INTO postrider.outbox (topic, payload) VALUES ('payments.made', '{}'), ('orders.paid', '{"n": 2}')`)
	if got := receive(t, received); got != `{"n": 2}` {
		t.Errorf("received %q", got)
	}
	on(t, db.URL(), "status").ok("default active")
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		text, _ := p.out.read()
		t.Errorf("status %d:\n%s", status, text)
	}
}

// Options reach the sink, and what the destination answers is kept in the log where that is asked for.
func TestRunWithOptions(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	on(t, db.URL(), "migrate").ok()
	on(t, db.URL(), "enqueue", "orders.created", `{"n":1}`).ok()
	tokens := make(chan string, 10)
	url, received := webhookReceiver(t, func(r *http.Request) int { tokens <- r.Header.Get("Authorization"); return 201 })
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SINK="+url, "POSTRIDER_TOPICS=orders.>", "POSTRIDER_SECRET_HOOK=geheim",
		`POSTRIDER_OPTIONS={"bearer":"env:POSTRIDER_SECRET_HOOK","receipts":100}`, "POSTRIDER_BACKOFF_SCHEDULE=1s,2s", "POSTRIDER_LINGER=1ms")
	receive(t, received)
	if token := <-tokens; token != "Bearer geheim" {
		t.Errorf("authorization %q", token)
	}
	on(t, db.URL(), "subs", "list").ok(`backoff_schedule=["1s","2s"] linger=1ms options={"bearer":"env:POSTRIDER_SECRET_HOOK","receipts":100}`)
	p.signal(syscall.SIGTERM)
	p.ends()
	text, _ := p.out.read()
	if !strings.Contains(text, "msg=delivered subscription=default message=") || !strings.Contains(text, "status=201") || strings.Contains(text, "geheim") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestRunEndsAtOnceOnALaterSignal(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	on(t, db.URL(), "migrate").ok()
	on(t, db.URL(), "enqueue", "orders.created").ok()
	url, received := webhookReceiver(t, func(r *http.Request) int { <-r.Context().Done(); return 503 })
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SINK="+url, "POSTRIDER_TOPICS=>", "POSTRIDER_DRAIN_TIMEOUT=10m", "POSTRIDER_TIMEOUT=10m")
	receive(t, received)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGTERM) // as supervisors do that signal the process and its group: still the first
	p.waitFor(`msg="stopping`)
	if status, _ := p.get("/healthz"); status != 200 {
		t.Errorf("/healthz while it drains: %d", status)
	}
	deadline := time.After(patience)
	for ended := false; !ended; {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			ended = true
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatal("later signals do not end it")
		}
	}
	if status := p.cmd.ProcessState.ExitCode(); status != -1 {
		t.Errorf("status %d, want an end by the signal", status)
	}
}

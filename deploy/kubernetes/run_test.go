package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is when a wait is given up.
const patience = 4 * time.Minute

// TestChartRuns: with the roles of the file, what the chart's Job does is enough for what its Deployment runs: the probes succeed, what the application
// commits arrives, and SIGTERM ends it within the grace.
func TestChartRuns(t *testing.T) {
	t.Parallel()
	arrived := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- r.Header.Get("postrider-topic") + " " + string(body)
	}))
	defer receiver.Close()
	values := strings.NewReplacer("https://billing.example/hooks", receiver.URL, "stream: true, ", "", "POSTRIDER_FOLLOW: auto, ", "POSTRIDER_FOLLOW: timer, ", ", format: batch", "").Replace(most)
	m := render(t, values)
	binary := build(t)
	db := pgtest.Servers(t, pgtest.Options{}).NewDB(t) // roles are the whole server's
	psql := exec.CommandContext(t.Context(), filepath.Join(db.Server.BinDir(), "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "owner_password=o", "-v", "relay_password=r",
		"-f", "../roles-production.sql", db.URL())
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	job, relay := podOf{"", &m.jobs[0].Spec.Template}, podOf{"", &m.deployments[0].Spec.Template}
	migrate := command(t, binary, environment(t, m, job, job.containers()[0], db.RoleURL("postrider_owner")), job.containers()[0].Args...)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	env := environment(t, m, relay, *relay.relay(), db.RoleURL("relay"))
	delete(env, "POSTRIDER_API_URL") // it would name a port that is not ours
	for name, value := range env {
		if strings.HasSuffix(name, "_ADDR") && strings.HasPrefix(value, ":") {
			env[name] = "127.0.0.1:0"
		}
	}
	run := start(t, binary, env)
	base := "http://" + run.told(t, `/metrics".*"address":"([^"]+)"`)
	c := relay.relay()
	for _, path := range []string{c.StartupProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path, m.monitors[0].Spec.PodMetricsEndpoints[0].Path} {
		await(t, path, func() string { return get(t, base+path) })
	}
	db.Exec(t, `SET ROLE app; SELECT postrider.enqueue('payments.made', '{"id": 42}')`)
	select {
	case got := <-arrived:
		if want := `payments.made {"id": 42}`; got != want {
			t.Errorf("%q arrived, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}
	run.stop(t, time.Duration(*relay.pod.Spec.TerminationGracePeriodSeconds)*time.Second)
}

// process is a relay that runs.
type process struct {
	cmd   *exec.Cmd
	log   lines
	ended chan error
}

func start(t *testing.T, binary string, env map[string]string) *process {
	t.Helper()
	p := &process{cmd: command(t, binary, env, "run"), ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-p.ended
		if t.Failed() {
			t.Logf("the log:\n%s", p.log.String())
		}
	})
	return p
}

// told waits for what a line of the log tells.
func (p *process) told(t *testing.T, line string) string {
	t.Helper()
	return await(t, line, func() string {
		if found := regexp.MustCompile(line).FindStringSubmatch(p.log.String()); found != nil {
			return found[1]
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			t.Fatalf("it has ended: %v", err)
		default:
		}
		return ""
	})
}

// stop asks for a clean stop, and wants it within the grace.
func (p *process) stop(t *testing.T, grace time.Duration) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(grace):
		t.Error("it would have been killed")
	}
}

func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postrider")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", path, "./cmd/postrider")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// command runs the binary with an environment and nothing of ours that Postrider or PostgreSQL read.
func command(t *testing.T, binary string, env map[string]string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// get returns what an address answers with 200, else nothing.
func get(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// await waits until ask returns something.
func await(t *testing.T, what string, ask func() string) string {
	t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if got := ask(); got != "" {
			return got
		}
	}
	t.Fatalf("no %s", what)
	return ""
}

// lines are what a process has written.
type lines struct {
	lock sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

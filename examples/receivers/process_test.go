package receivers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(built)
		os.Exit(code)
	}))
}

// starter is the command of a receiver.
type starter []string

// built is the directory of the receiver in Go.
var built string

// buildGo builds it once for all tests.
var buildGo = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "receiver"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "receiver")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./go").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// each runs a test with each receiver.
func each(t *testing.T, test func(*testing.T, starter)) {
	t.Run("go", func(t *testing.T) {
		path, err := buildGo()
		if err != nil {
			t.Fatal(err)
		}
		test(t, starter{path})
	})
	for _, s := range []starter{{"python3", "python/receiver.py"}, {"node", "node/receiver.mjs"}} {
		t.Run(s[0], func(t *testing.T) {
			if _, err := exec.LookPath(s[0]); err != nil {
				t.Skipf("%s is not installed, so that %s was not tried", s[0], s[1])
			}
			test(t, s)
		})
	}
}

func (s starter) command(ctx context.Context, secret string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s[0], s[1:]...)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret, "ADDR=127.0.0.1:0")
	cmd.WaitDelay = patience
	return cmd
}

// process is a receiver that runs.
type process struct {
	url   string
	lines chan string
}

// run starts a receiver with that WEBHOOK_SECRET, until the test ends.
func (s starter) run(t *testing.T, secret string) *process {
	t.Helper()
	cmd := s.command(t.Context(), secret) // it ends before cleanups run, and the process with it
	cmd.Stderr = os.Stderr
	out, in := io.Pipe()
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{lines: make(chan string, 100)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for r := bufio.NewScanner(out); r.Scan(); {
			p.lines <- r.Text()
		}
	})
	t.Cleanup(func() {
		err := cmd.Wait()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() {
			t.Errorf("the receiver ended by itself: %v", err)
		}
		in.Close()
		wg.Wait()
	})
	p.url = strings.TrimPrefix(p.line(t), "listening on ")
	return p
}

// fails runs a receiver that cannot start, and returns its last words.
func (s starter) fails(t *testing.T, secret string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := s.command(ctx, secret).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("it started with WEBHOOK_SECRET=%q: %s", secret, out)
	}
	return string(out)
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(patience):
		t.Fatalf("the receiver said nothing for %v", patience)
		return ""
	}
}

// wants says how the receiver's next lines begin.
func (p *process) wants(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if got := p.line(t); !strings.HasPrefix(got, want) {
			t.Errorf("the receiver said %q, want %q", got, want)
		}
	}
}

// tampering stands between sender and receiver and changes requests. Tests send one after the other.
type tampering struct {
	url    string
	change func(*relayed)
}

func newTampering(t *testing.T, to string) *tampering {
	p := new(tampering)
	transport := &http.Transport{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r := &relayed{req.Header.Clone(), body}
		p.change(r)
		out, err := http.NewRequestWithContext(req.Context(), http.MethodPost, to, bytes.NewReader(r.body))
		if err != nil {
			t.Error(err)
			return
		}
		out.Header = r.header
		res, err := transport.RoundTrip(out)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
	}))
	t.Cleanup(func() { srv.Close(); transport.CloseIdleConnections() })
	p.url = srv.URL
	return p
}

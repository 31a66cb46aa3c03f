package workers

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

// process is a worker that runs.
type process struct {
	cmd   *exec.Cmd
	lines chan string
	ended func() error // waits until it has
}

// start runs a program with these variables added to the environment, until the test ends.
func start(t *testing.T, command []string, env ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...) // the context ends before cleanups run, and the process with it
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = patience
	out, in := io.Pipe()
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, lines: make(chan string, 10_000)}
	var reader sync.WaitGroup
	reader.Go(func() {
		for r := bufio.NewScanner(out); r.Scan(); {
			p.lines <- r.Text()
		}
	})
	p.ended = sync.OnceValue(func() error {
		err := cmd.Wait()
		in.Close()
		reader.Wait()
		return err
	})
	t.Cleanup(func() { _ = p.ended() }) // it was killed
	p.says(t, "working on ")
	return p
}

// says waits for a line that begins so.
func (p *process) says(t *testing.T, begin string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if strings.HasPrefix(line, begin) {
				return
			}
		case <-timeout:
			t.Fatalf("the worker did not say %q for %v", begin, patience)
		}
	}
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.ended() // it was killed
}

// terminate asks it to stop, and wants that it does so well.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("the worker stops: %v", err)
	}
}

// needs skips the test if a program is not there.
func needs(t *testing.T, program, example string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed, so that %s was not tried", program, example)
	}
}

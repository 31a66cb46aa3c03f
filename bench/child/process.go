package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is what a process gets to end in its own orderly way.
const stopTimeout = 20 * time.Second

// Spec says what to start.
type Spec struct {
	// Name stands in errors.
	Name string
	// Cmd has program, arguments and environment. Start sets its output and its process group.
	Cmd *exec.Cmd
	// Log is the file that the process's output is appended to.
	Log string
	// AwaitReady makes Start wait until the child has called Ready.
	AwaitReady bool
	// Poll, if it is set, is asked until it returns nil; Start waits for that.
	Poll func(ctx context.Context) error
}

// Process is a child process. Its methods may be called concurrently.
type Process struct {
	spec  Spec
	cmd   *exec.Cmd
	ready chan struct{}
	ended chan struct{}
	err   error // how it ended; valid once ended is closed
	once  sync.Once
	stop  error
}

// Start starts a process and returns when it is ready, as the spec says. ctx bounds the wait alone. After an error nothing runs.
func Start(ctx context.Context, s Spec) (*Process, error) {
	p := &Process{spec: s, cmd: s.Cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	err := p.start()
	if err == nil {
		err = p.await(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return p, nil
}

func (p *Process) start() error {
	group, err := watch()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}
	go func() {
		p.copy(log, out)
		p.err = errors.Join(p.cmd.Wait(), log.Close())
		close(p.ended)
	}()
	return nil
}

// copy takes the output down until its end, and finds the line that says ready.
func (p *Process) copy(to io.Writer, out io.Reader) {
	lines := bufio.NewReader(out)
	for said := false; ; {
		line, err := lines.ReadString('\n')
		if !said && strings.TrimSuffix(line, "\n") == readyLine {
			said = true
			close(p.ready)
		} else if line != "" {
			_, _ = io.WriteString(to, line) // a log that cannot be written is no reason to stop the process
		}
		if err != nil {
			return
		}
	}
}

// await waits until the process is ready. If it does not become so, it is killed.
func (p *Process) await(ctx context.Context) (err error) {
	switch {
	case p.spec.AwaitReady:
		select {
		case <-p.ready:
		case <-p.ended:
			err = errors.New("it ended")
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	case p.spec.Poll != nil:
		err = p.poll(ctx)
	}
	if err != nil {
		p.Kill()
		return fmt.Errorf("%w (%v); %s", err, p.cmd.ProcessState, p.LogTail(10))
	}
	return nil
}

func (p *Process) poll(ctx context.Context) error {
	for {
		err := p.spec.Poll(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error means that it is gone
	<-p.ended
}

// Stop asks the process to end with SIGTERM and waits for it; after 20 seconds it is killed, which is an error, as any status but 0 is.
// Further calls return the same.
func (p *Process) Stop() error {
	p.once.Do(func() { p.stop = p.end() })
	return p.stop
}

func (p *Process) end() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it is gone
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("stop %s: it did not end within %v and was killed; %s", p.spec.Name, stopTimeout, p.LogTail(10))
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
		return nil // it has no handler, so this is its own way
	}
	if p.err != nil && !p.cmd.ProcessState.Success() {
		return fmt.Errorf("stop %s: %w; %s", p.spec.Name, p.err, p.LogTail(10))
	}
	return nil
}

// LogTail quotes the end of the process's log.
func (p *Process) LogTail(n int) string {
	text, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "its log ends with\n  | " + strings.Join(lines[max(0, len(lines)-n):], "\n  | ")
}

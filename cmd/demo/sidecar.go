package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	relayPackage = "github.com/postrider/postrider/cmd/postrider"
	stopTimeout  = 25 * time.Second
	tailLines    = 12
)

// sidecar is the real relay, built from source and run as a child process.
type sidecar struct {
	binary, log string
	api         string   // where workers ask, if any do
	env         []string // all that it needs to know
	cmd         *exec.Cmd
	stopping    atomic.Bool // or ended already
	ended       chan struct{}
	err         error // how it ended; valid once ended is closed
}

// build compiles the relay into dir.
func (s *sidecar) build(ctx context.Context, dir string) error {
	s.binary, s.log = filepath.Join(dir, "postrider"), filepath.Join(dir, "relay.log")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary, relayPackage).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("build the relay: %w: put the directory of the go command into PATH", err)
	}
	if err != nil {
		return fmt.Errorf("build the relay: %w (the demo must run inside the repository)\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// command returns a command of the relay's program, with the environment for it.
func (s *sidecar) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, s.env...)
	// Out of reach of a Ctrl-C in the terminal: the demo decides when it stops.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// start runs the relay. The function is told if it ends by itself.
func (s *sidecar) start(died func(error)) error {
	log, err := os.Create(s.log)
	if err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	defer log.Close()
	s.cmd = s.command("run")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	dismiss, err := watch(s.cmd.Process.Pid, filepath.Dir(s.binary))
	if err != nil {
		return errors.Join(fmt.Errorf("start the relay: %w", err), s.cmd.Process.Kill(), s.cmd.Wait())
	}
	s.ended = make(chan struct{})
	go func() {
		s.err = errors.Join(s.cmd.Wait(), dismiss())
		close(s.ended)
		if s.stopping.CompareAndSwap(false, true) {
			died(fmt.Errorf("the relay ended by itself (%v); %s", s.cmd.ProcessState, s.logTail()))
		}
	}()
	return nil
}

// stop asks the relay to stop, and insists after a while. It does nothing if the relay has ended or was never started.
func (s *sidecar) stop() error {
	if s.ended == nil || !s.stopping.CompareAndSwap(false, true) {
		return nil
	}
	// An error means that it is gone already.
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("the relay did not stop within %v and was killed; %s", stopTimeout, s.logTail())
	}
	if s.err != nil {
		return fmt.Errorf("the relay stopped with an error (%w); %s", s.err, s.logTail())
	}
	return nil
}

// logTail quotes the end of the relay's log.
func (s *sidecar) logTail() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return fmt.Sprintf("the relay's log cannot be read: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "the relay's log ends with\n  | " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n  | ")
}

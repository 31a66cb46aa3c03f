package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/account"
)

// pollEvery is how often a starting or stopping process is looked at.
const pollEvery = 5 * time.Millisecond

// process is one long-running child of this process. It is reaped by polling: a
// goroutine in Wait would look like a leak to every test.
type process struct {
	name     string // for errors
	pid      int
	exited   bool
	killed   bool  // it has exited by a signal
	logStart int64 // size of the log when it was started
}

// spawn starts cmd in dir as the account, its output appended to dir's log. It is
// not ready yet.
func spawn(name string, cmd *exec.Cmd, dir string, as account.Account) (*process, error) {
	log, err := os.OpenFile(logFile(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := log.Stat()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	cmd.Dir = dir
	cmd.Env = childEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = as.SysProcAttr()
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return nil, err
	}
	p := &process{name: name, pid: cmd.Process.Pid, logStart: info.Size()}
	return p, cmd.Process.Release() // reaped by poll
}

// poll reaps the process if it has exited, and says so.
func (p *process) poll() bool {
	if p.exited {
		return true
	}
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(p.pid, &status, syscall.WNOHANG, nil)
	// ECHILD: somebody else has reaped it.
	p.exited = pid == p.pid || errors.Is(err, syscall.ECHILD)
	p.killed = pid == p.pid && status.Signaled()
	return p.exited
}

// waitReady returns once the server at url takes connections.
func (p *process) waitReady(ctx context.Context, url string) error {
	for {
		if p.poll() {
			return fmt.Errorf("%s exited", p.name)
		}
		err := ping(ctx, url)
		if err == nil {
			return nil
		}
		if !pause(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// waitExit returns true once the process is gone, false if ctx ends first.
func (p *process) waitExit(ctx context.Context) bool {
	for !p.poll() {
		if !pause(ctx) {
			return p.poll()
		}
	}
	return true
}

// end sends each signal in turn until the process is gone; all but the last
// have grace to work.
func (p *process) end(ctx context.Context, grace time.Duration, signals ...syscall.Signal) error {
	for _, sig := range signals {
		if p.poll() {
			return nil
		}
		if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %v to %s: %w", sig, p.name, err)
		}
		wait, cancel := context.WithTimeout(ctx, grace)
		gone := p.waitExit(wait)
		cancel()
		if gone {
			return nil
		}
	}
	return fmt.Errorf("%s (pid %d) did not end after %v", p.name, p.pid, signals)
}

// ping connects once and leaves.
func ping(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// pause waits for the next poll; false means that ctx has ended.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pollEvery):
		return true
	}
}

// childEnv keeps PGPORT, PGOPTIONS and the like away from the child.
func childEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

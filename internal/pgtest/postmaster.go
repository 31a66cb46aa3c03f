package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollEvery is how often a starting or stopping postmaster is looked at.
const pollEvery = 5 * time.Millisecond

// errExited says that a postmaster is gone before it was ready.
var errExited = errors.New("the server exited")

// postmaster is one running server process, a child of this one. It is reaped
// by polling: a goroutine in Wait would look like a leak to every test.
type postmaster struct {
	pid      int
	exited   bool
	logStart int64 // size of the log when it was started
}

// spawn starts a postmaster on the data directory; it is not ready yet.
func spawn(binDir, dir string, as account) (*postmaster, error) {
	log, err := os.OpenFile(logFile(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := log.Stat()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	cmd := exec.Command(filepath.Join(binDir, "postgres"), "-D", dataDir(dir))
	cmd.Dir = dir
	cmd.Env = childEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = as.sysProcAttr()
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return nil, err
	}
	p := &postmaster{pid: cmd.Process.Pid, logStart: info.Size()}
	return p, cmd.Process.Release() // reaped by poll
}

// poll reaps the postmaster if it has exited, and says so.
func (p *postmaster) poll() bool {
	if p.exited {
		return true
	}
	pid, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
	// ECHILD: somebody else has reaped it.
	p.exited = pid == p.pid || errors.Is(err, syscall.ECHILD)
	return p.exited
}

// waitReady returns once the server at url takes connections.
func (p *postmaster) waitReady(ctx context.Context, url string) error {
	for {
		if p.poll() {
			return errExited
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

// waitExit returns true once the postmaster is gone, false if ctx ends first.
func (p *postmaster) waitExit(ctx context.Context) bool {
	for !p.poll() {
		if !pause(ctx) {
			return p.poll()
		}
	}
	return true
}

// end sends each signal in turn until the postmaster is gone; all but the last
// have grace to work.
func (p *postmaster) end(ctx context.Context, grace time.Duration, signals ...syscall.Signal) error {
	for _, sig := range signals {
		if p.poll() {
			return nil
		}
		if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %v to the server: %w", sig, err)
		}
		wait, cancel := context.WithTimeout(ctx, grace)
		gone := p.waitExit(wait)
		cancel()
		if gone {
			return nil
		}
	}
	return fmt.Errorf("the server (pid %d) did not end after %v", p.pid, signals)
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

// childEnv keeps PGPORT, PGOPTIONS and the like away from the server.
func childEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// faultTimeout bounds what the kernel does at once, unless the machine is swamped.
const faultTimeout = 10 * time.Second

// Kill ends the postmaster and all its children with SIGKILL, as if the machine
// had lost its power, and returns when they are gone. [Server.Restart] starts the
// server again, which then recovers. A server that is dead already is left so.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), faultTimeout)
	defer cancel()
	if err := s.kill(ctx); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) kill(ctx context.Context) error {
	if s.pm.poll() {
		return nil
	}
	children, err := s.freeze(ctx)
	err = errors.Join(err, signalAll(syscall.SIGKILL, append(children, s.pm.pid)...))
	if err != nil {
		return err
	}
	if !s.pm.waitExit(ctx) {
		return fmt.Errorf("%s (pid %d) outlives SIGKILL", s.pm.name, s.pm.pid)
	}
	return errors.Join(awaitProcs(ctx, children, proc.ended), s.notePaused(nil))
}

// Pause stops the postmaster and all its children (SIGSTOP), as if the machine
// hung: connections stay open, new ones are accepted by the kernel, and nobody
// answers. [Server.Resume] lets them go on, and so do Restart and Stop. A second
// call does nothing.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), faultTimeout)
	defer cancel()
	if err := s.pauseAll(ctx); err != nil {
		return fmt.Errorf("pause PostgreSQL: %w", errors.Join(err, s.resume()))
	}
	return nil
}

func (s *Server) pauseAll(ctx context.Context) error {
	if s.pm.poll() {
		return fmt.Errorf("%s is not running", s.pm.name)
	}
	// The watchdog knows first: who is stopped would outlive us, and a backend even its postmaster.
	if err := s.notePaused([]int{s.pm.pid}); err != nil {
		return err
	}
	children, err := s.freeze(ctx)
	err = errors.Join(err, s.notePaused(append(children, s.pm.pid)))
	if err != nil {
		return err
	}
	return errors.Join(signalAll(syscall.SIGSTOP, children...), awaitProcs(ctx, children, proc.stopped))
}

// Resume undoes Pause. On a server that is not paused it does nothing.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.resume(); err != nil {
		return fmt.Errorf("resume PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) resume() error {
	if s.paused == nil {
		return nil
	}
	return errors.Join(signalAll(syscall.SIGCONT, s.paused...), s.notePaused(nil))
}

// notePaused remembers who is stopped, here and in the watchdog.
func (s *Server) notePaused(pids []int) error {
	s.paused = pids
	return s.dog.note(pids)
}

// freeze stops the postmaster, so that it starts nobody, and lists its children.
func (s *Server) freeze(ctx context.Context) ([]int, error) {
	if err := signalAll(syscall.SIGSTOP, s.pm.pid); err != nil {
		return nil, err
	}
	if err := awaitProcs(ctx, []int{s.pm.pid}, proc.stopped); err != nil {
		return nil, err
	}
	return s.children(ctx)
}

// children lists the children of the postmaster: backends and auxiliary processes.
func (s *Server) children(ctx context.Context) ([]int, error) {
	table, err := processTable(ctx)
	var pids []int
	for pid, p := range table {
		if p.parent == s.pm.pid && !p.ended() {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// sweep lets PostgreSQL remove the shared memory that a killed server has left
// outside its directory: every start begins with that, in single-user mode too.
// How that mode goes on does not matter.
func (s *Server) sweep() error {
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), "--single", "-D", dataDir(s.dir), "template1")
	p, err := spawn("single-user PostgreSQL", cmd, s.dir, s.as)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if p.waitExit(ctx) {
		return nil
	}
	return p.end(context.Background(), stopGrace, syscall.SIGKILL)
}

// Backends returns the process ids of all client connections, walsenders included,
// oldest first and without the one that it asks with. Of its own connection a
// client knows it from pgconn.PgConn.PID.
func (s *Server) Backends(ctx context.Context) ([]int, error) {
	pids, err := query1[[]int](ctx, s.URL("postgres"), `SELECT coalesce(array_agg(pid ORDER BY backend_start), '{}')
		FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()`)
	if err != nil {
		return nil, fmt.Errorf("list backends: %w", err)
	}
	return pids, nil
}

// KillBackend ends one child of the postmaster with SIGKILL, a backend or any
// other, as the kernel does when memory runs out. PostgreSQL then ends all others
// and recovers as after a crash. KillBackend returns when the postmaster knows;
// what [Server.AwaitReady] waits for is the end of the recovery.
func (s *Server) KillBackend(ctx context.Context, pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil {
		return fmt.Errorf("kill backend %d: the server is paused, its postmaster would not notice", pid)
	}
	children, err := s.children(ctx)
	if err != nil {
		return fmt.Errorf("kill backend %d: %w", pid, err)
	}
	if !slices.Contains(children, pid) {
		return fmt.Errorf("kill backend %d: it is no child of the postmaster (pid %d)", pid, s.pm.pid)
	}
	// Until its parent has reaped it, it is a zombie.
	err = errors.Join(signalAll(syscall.SIGKILL, pid), awaitProcs(ctx, []int{pid}, proc.gone))
	if err != nil {
		return fmt.Errorf("kill backend %d: %w", pid, err)
	}
	return nil
}

// AwaitReady returns when the server takes connections. It fails when ctx ends, or
// at once when the server is down and will not come back by itself.
func (s *Server) AwaitReady(ctx context.Context) error {
	for {
		err := ping(ctx, s.URL("postgres"))
		if err == nil {
			return nil
		}
		if s.down() {
			return fmt.Errorf("wait for PostgreSQL: it is down: %w", err)
		}
		if !pause(ctx) {
			return fmt.Errorf("wait for PostgreSQL: %w: %w", context.Cause(ctx), err)
		}
	}
}

func (s *Server) down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pm.poll()
}

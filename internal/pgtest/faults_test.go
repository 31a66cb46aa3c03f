package pgtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	s := Servers(t, Options{})
	if err := exec1(t.Context(), s.URL("postgres"), `CREATE TABLE kept AS SELECT 1 AS n; CREATE UNLOGGED TABLE crashed AS SELECT 1 AS n`); err != nil {
		t.Fatal(err)
	}
	// In this order: the first crash empties the unlogged table.
	t.Run("pause", func(t *testing.T) { pauseAndResume(t, s) })
	t.Run("pause and restart", func(t *testing.T) { pauseAndRestart(t, s) })
	if got := count(t, s, "crashed"); got != "1" {
		t.Errorf("a pause is no crash, but the unlogged table has %s rows", got)
	}
	t.Run("backend", func(t *testing.T) { killBackend(t, s) })
	if got := count(t, s, "crashed"); got != "0" {
		t.Errorf("a backend was killed, and the unlogged table has %s rows", got)
	}
	bouncer := Bouncers(t, s, BouncerOptions{})
	t.Run("kill", func(t *testing.T) { killAll(t, s) })
	eventually(t, "the way through PgBouncer is open again", func() bool {
		return exec1(t.Context(), bouncer.URL("postgres"), `SELECT FROM kept`) == nil
	})
	if got := count(t, s, "kept"); got != "1" {
		t.Errorf("in the end the table has %s rows", got)
	}
}

func pauseAndResume(t *testing.T, s *Server) {
	conn, err := connect(t, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.KillBackend(t.Context(), int(conn.PgConn().PID())); err == nil || !strings.Contains(err.Error(), "paused") {
		t.Errorf("a backend of a paused server: %v", err)
	}
	// Someone who is connected is heard, and not answered.
	answer := make(chan error, 1)
	go func() { _, err := conn.Exec(t.Context(), `SELECT 1`); answer <- err }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.AwaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server lets somebody in, or is said to be down: %v", err)
	}
	select {
	case err := <-answer:
		t.Errorf("a paused server answers: %v", err)
	default:
	}
	for range 2 {
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answer; err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

func pauseAndRestart(t *testing.T, s *Server) {
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitReady(t.Context()); err != nil {
		t.Error(err)
	}
}

func killBackend(t *testing.T, s *Server) {
	conn, err := connect(t, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := connect(t, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	pid := int(conn.PgConn().PID())
	if pids, err := s.Backends(t.Context()); err != nil || !slices.Contains(pids, pid) || !slices.Contains(pids, int(other.PgConn().PID())) {
		t.Errorf("backends %v lack one of two: %v", pids, err)
	}
	if err := s.KillBackend(t.Context(), os.Getpid()); err == nil || !strings.Contains(err.Error(), "no child") {
		t.Fatalf("a process of somebody else: %v", err)
	}
	before := s.Pid()
	if err := s.KillBackend(t.Context(), pid); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `SELECT 1`); err == nil {
		t.Error("another backend outlived the crash")
	}
	if s.Pid() != before {
		t.Error("the postmaster is another one")
	}
}

// killAll kills a server while one of its backends is too busy to notice the
// postmaster's end by itself, and while another is stopped.
func killAll(t *testing.T, s *Server) {
	conn, err := connect(t, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `DO $$ BEGIN WHILE clock_timestamp() < now() + interval '1 min' LOOP END LOOP; END $$`)
		done <- err
	}()
	eventually(t, "the backend is busy", func() bool {
		return count(t, s, `pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'`) == "1"
	})
	s.mu.Lock()
	children, err := s.children(t.Context())
	s.mu.Unlock()
	if err != nil || len(children) < 4 {
		t.Fatalf("children %v: %v", children, err)
	}
	if err := syscall.Kill(children[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(children, s.Pid()) {
		if running(pid) {
			t.Errorf("process %d outlived the kill", pid)
		}
	}
	if err := <-done; err == nil {
		t.Error("the busy backend came to its end")
	}
	if err := s.AwaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "it is down") {
		t.Errorf("waiting for a dead server: %v", err)
	}
	if err := s.Pause(); err == nil {
		t.Error("a dead server was paused")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("kill again: %v", err)
	}
	if err := s.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
}

func TestProcessTable(t *testing.T) {
	for name, list := range map[string]func() ([][]byte, error){
		"proc": procLines,
		"ps":   func() ([][]byte, error) { return psLines(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) { processTableOf(t, name, list) })
	}
}

func processTableOf(t *testing.T, name string, list func() ([][]byte, error)) {
	if _, err := exec.LookPath("ps"); err != nil && name == "ps" {
		t.Skip("NOT TESTED, systems without /proc: ps is not installed")
	}
	lines, err := list()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if name == "proc" && len(lines) == 0 {
		t.Skip("NOT TESTED, the table of processes in /proc: this system has none")
	}
	found := false
	for _, line := range lines {
		p, err := parseProc(line)
		if err != nil {
			t.Errorf("%s: %q: %v", name, line, err)
		}
		found = found || p.pid == os.Getpid() && p.parent == os.Getppid() && !p.stopped()
	}
	if !found {
		t.Errorf("%s does not know this process (%d, child of %d)", name, os.Getpid(), os.Getppid())
	}
}

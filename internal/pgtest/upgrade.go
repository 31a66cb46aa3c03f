package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Upgrade stops the server cleanly and starts a new one that pg_upgrade has filled with what it held: of another version if
// o.BinDir says so. The old one is of no more use. ErrNoUpgrade says that the programs have no pg_upgrade among them.
func (s *Server) Upgrade(ctx context.Context, o Options) (*Server, error) {
	n := &Server{binDir: cmp.Or(o.BinDir, s.binDir)}
	if _, err := os.Stat(n.upgrader()); err != nil {
		return nil, fmt.Errorf("%w in %s", ErrNoUpgrade, n.binDir)
	}
	s.mu.Lock()
	err := errors.Join(s.resume(), s.pm.end(ctx, stopGrace, syscall.SIGINT))
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("stop the old server: %w", err)
	}
	fill := func(ctx context.Context) error { return errors.Join(n.initdb(ctx), n.fillFrom(ctx, s)) }
	if err := n.start(ctx, o, fill); err != nil {
		return nil, fmt.Errorf("upgrade: %w", errors.Join(err, n.Stop()))
	}
	return n, nil
}

// ErrNoUpgrade says that there is no pg_upgrade.
var ErrNoUpgrade = errors.New("no pg_upgrade")

func (s *Server) upgrader() string { return filepath.Join(s.binDir, "pg_upgrade") }

func (s *Server) fillFrom(ctx context.Context, old *Server) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.upgrader(), "-b", old.binDir, "-B", s.binDir, "-d", dataDir(old.dir), "-D", dataDir(s.dir),
		"-U", superuser, "-s", s.dir, "-p", fmt.Sprint(port), "-P", fmt.Sprint(port))
	cmd.Dir = s.dir
	cmd.Env = childEnv()
	cmd.SysProcAttr = s.as.SysProcAttr()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_upgrade: %w\n%s", err, lastLines(out, 30))
	}
	return nil
}

// Upgraded is [Server.Upgrade] for one test alone. Without pg_upgrade the test is skipped, and says so.
func Upgraded(t testing.TB, old *Server, o Options) *Server {
	t.Helper()
	s, err := old.Upgrade(t.Context(), o)
	if errors.Is(err, ErrNoUpgrade) {
		t.Skipf("NOT TESTED, upgrades by pg_upgrade: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, "the upgraded server", s)
	return s
}

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/account"
)

const (
	superuser    = "postgres"
	startTimeout = 60 * time.Second
	// stopGrace is what each kind of shutdown gets before a ruder one follows.
	stopGrace = time.Minute
)

// errTransient marks a failed start that is worth another attempt.
var errTransient = errors.New("worth another attempt")

// transientFailure finds the reasons in the log: somebody was faster in taking the
// port, or the backends of a killed postmaster are still on their way out.
var transientFailure = regexp.MustCompile(`could not bind|pre-existing shared memory block`)

// Server is a running private cluster. Its methods may be called concurrently.
type Server struct {
	binDir, dir string
	port        int
	as          account.Account
	dog         *watchdog

	template  sync.Mutex
	templated bool // it has a template of databases

	mu      sync.Mutex
	pm      *process
	paused  []int // who was stopped by Pause: the postmaster and its children
	stopped bool
}

// Start starts a private cluster in a temporary directory. It looks for the
// programs in o.BinDir, in $POSTRIDER_PG_BIN, or else in PATH and where packages
// put them; as root on Debian it installs them if there are none. As root it runs
// the server as user postgres, or nobody.
//
// ctx bounds the start alone. An error includes the end of the server's log, and
// nothing is left behind. Whoever calls Start calls Stop.
func Start(ctx context.Context, o Options) (*Server, error) {
	binDir, err := findBinDir(ctx, o.BinDir, writer(o.Log))
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s := &Server{binDir: binDir}
	if err := s.start(ctx, o, s.initdb); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", errors.Join(err, s.Stop()))
	}
	return s, nil
}

// start does the work of Start, with makeData to fill the data directory. What it
// leaves half done, Stop undoes.
func (s *Server) start(ctx context.Context, o Options, makeData func(context.Context) error) (err error) {
	if s.as, err = account.OfServer(); err != nil {
		return err
	}
	if s.dir, err = s.as.MakeDir(); err != nil {
		return err
	}
	if s.dog, err = startWatchdog(s.dir, "data/postmaster.pid", "QUIT"); err != nil {
		return err
	}
	if err := makeData(ctx); err != nil {
		return err
	}
	for range 5 {
		if err := s.configure(o); err != nil {
			return err
		}
		if err = s.launch(ctx); !errors.Is(err, errTransient) {
			return err
		}
	}
	return err
}

// initdb makes the data directory. Everyone on the loopback address is trusted.
func (s *Server) initdb(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, "initdb"), "-D", dataDir(s.dir),
		"-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir = s.dir
	cmd.Env = childEnv()
	cmd.SysProcAttr = s.as.SysProcAttr()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, lastLines(out, 20))
	}
	return nil
}

// configure picks a port and writes the settings, replacing initdb's file.
func (s *Server) configure(o Options) (err error) {
	if s.port, err = freePort(); err != nil {
		return err
	}
	conf := filepath.Join(dataDir(s.dir), "postgresql.conf")
	if err := os.WriteFile(conf, renderSettings(o.settings(s.port, s.dir)), 0o600); err != nil {
		return err
	}
	return s.as.Chown(conf)
}

// launch starts a postmaster and waits until it takes connections. The error
// wraps errTransient if another attempt may go better.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), "-D", dataDir(s.dir))
	pm, err := spawn("the server", cmd, s.dir, s.as)
	if err != nil {
		return err
	}
	s.pm = pm
	err = pm.waitReady(ctx, s.URL("postgres"))
	if err == nil {
		return nil
	}
	tail := logSince(s.dir, pm.logStart, 20)
	if transientFailure.MatchString(tail) {
		err = fmt.Errorf("%w (%w)", err, errTransient)
	}
	return fmt.Errorf("%w; its log ends with:\n%s", err, tail)
}

// Stop shuts the server down (fast, with force after a while) and removes its
// directory. Further calls do nothing and return nil.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	var errs []error
	switch {
	case s.pm == nil:
	case !s.pm.poll():
		errs = append(errs, s.resume(), s.pm.end(context.Background(), stopGrace, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL))
	case s.pm.killed:
		errs = append(errs, s.sweep())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	if s.dog != nil {
		errs = append(errs, s.dog.dismiss())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

// Restart stops the server and starts it again on the same port and data
// directory. Mode "fast" disconnects everybody and ends cleanly; "immediate" is a
// crash, from which the server recovers when it starts. A server that has been
// killed ([Server.Kill]) is just started, a paused one continued first. After an error the server may be down.
func (s *Server) Restart(ctx context.Context, mode string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	signal, ok := map[string]syscall.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok {
		return fmt.Errorf("restart PostgreSQL: mode %q is neither fast nor immediate", mode)
	}
	if s.stopped {
		return errors.New("restart PostgreSQL: it was stopped for good")
	}
	if err := errors.Join(s.resume(), s.pm.end(ctx, stopGrace, signal)); err != nil {
		return fmt.Errorf("restart PostgreSQL: %w", err)
	}
	err := s.launch(ctx)
	for deadline := time.Now().Add(stopGrace); errors.Is(err, errTransient) && time.Now().Before(deadline) && pause(ctx); {
		err = s.launch(ctx)
	}
	if err != nil {
		return fmt.Errorf("restart PostgreSQL: %w", err)
	}
	return nil
}

// URL returns a connection string for db as the superuser, over TCP on loopback.
func (s *Server) URL(db string) string { return s.roleURL(superuser, db) }

// Port returns the TCP port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// Dir returns the temporary directory that holds data, log and socket.
func (s *Server) Dir() string { return s.dir }

// BinDir returns the directory of the server's programs (psql, pg_dump, …).
func (s *Server) BinDir() string { return s.binDir }

// Pid returns the process id of the postmaster; a restart changes it.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pm.pid
}

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return logFile(s.dir) }

// LogTail returns at most n lines from the end of the server's log.
func (s *Server) LogTail(n int) string { return logSince(s.dir, 0, n) }

func dataDir(dir string) string { return filepath.Join(dir, "data") }
func logFile(dir string) string { return filepath.Join(dir, "log") }

// freePort returns a port of 127.0.0.1 that was free a moment ago. It stays below
// the range from which systems take the ports of outgoing connections: a client
// that dials a stopped server in that range can end up connected to itself, and
// the server cannot come back.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

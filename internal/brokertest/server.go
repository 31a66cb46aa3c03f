// Package brokertest runs real brokers beside a test or the checker, on the loopback interface alone, to be killed and started again.
package brokertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Server is a broker, running or not.
type Server struct {
	name, addr, dir string
	command         func() *exec.Cmd
	answers         func(conn net.Conn) bool
	cmd             *exec.Cmd // nil while it does not run
	ended           chan error
}

// Patience bounds the wait for a server that starts. It is for a machine that has other things to do.
const Patience = time.Minute

// freeAddr is an address of the loopback interface that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.addr }

// Restart starts a server that was killed, and waits until it answers.
func (s *Server) Restart() error {
	logFile := filepath.Join(s.dir, "log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := s.command()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, Attributes()
	err = cmd.Start()
	log.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.cmd, s.ended = cmd, ended
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		if s.is() {
			return nil
		}
		select {
		case end := <-ended:
			ended <- end
			err = fmt.Errorf("it ended: %v", end)
		default:
			if time.Now().Before(deadline) {
				continue
			}
			err = fmt.Errorf("it does not answer within %v", Patience)
		}
		s.Kill()
		text, _ := os.ReadFile(logFile)
		return fmt.Errorf("start %s: %w\n%s", s.name, err, text)
	}
}

// is reports whether it answers.
func (s *Server) is() bool {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	return conn.SetDeadline(time.Now().Add(time.Second)) == nil && s.answers(conn)
}

// Stop ends it as an administrator does, and waits until it has.
func (s *Server) Stop() error {
	if err := s.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	defer func() { s.cmd = nil }()
	select {
	case <-s.ended:
		return nil
	case <-time.After(Patience):
		s.Kill()
		return fmt.Errorf("%s does not end within %v of SIGTERM", s.name, Patience)
	}
}

// Signal sends a signal to it.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Kill kills it as a crash would, if it runs.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // an error means that it is gone
	<-s.ended
	s.cmd = nil
}

package brokertest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/apt"
)

// FindRedis returns the program redis-server, which is installed where that may be. The error says how to install it.
func FindRedis() (string, error) {
	find := func() (string, error) { return exec.LookPath("redis-server") }
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("Redis", find, func() error { return apt.Install(context.Background(), os.Stderr, "redis-server") })
	}
	if err != nil {
		return "", fmt.Errorf("%w: `apt-get install redis-server` installs it", err)
	}
	return path, nil
}

// StartRedis starts a Redis that keeps its files in dir, with arguments besides its own. What it has confirmed is on disk by then. Whoever calls
// it calls Kill.
func StartRedis(program, dir string, args ...string) (*Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{name: "Redis", addr: addr, dir: dir, answers: answersPing, command: func() *exec.Cmd {
		return exec.Command(program, append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
			"--enable-debug-command", "yes"}, args...)...)
	}}
	return s, s.Restart()
}

// Redis starts one of a test's own, which ends with it. Without the program the test is skipped.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	program, err := FindRedis()
	if err != nil {
		t.Skipf("NOT TESTED, Redis: %v", err)
	}
	s, err := StartRedis(program, t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// answersPing reports whether a Redis does, be it to ask for a password. One that loads does not.
func answersPing(conn net.Conn) bool {
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && (strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH"))
}

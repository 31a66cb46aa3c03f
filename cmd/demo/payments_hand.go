package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// hand is a worker: a group of processes that end when their standard input or the database does, so that none is left if the demo is killed.
type hand struct {
	name  string
	cmd   *exec.Cmd
	in    io.Closer
	ended chan struct{}
	gone  atomic.Bool // its end is wanted
}

// hire starts a worker. Lines that it writes go to said.
func (b *bank) hire(name string, cmd *exec.Cmd, said func(line string)) (*hand, error) {
	h := &hand{name: name, cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of reach of a Ctrl-C in the terminal
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if h.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker %s: %w", name, err)
	}
	go func() {
		defer close(h.ended)
		for r := bufio.NewScanner(out); r.Scan(); {
			said(r.Text())
		}
		if err := cmd.Wait(); err != nil && !h.gone.Load() {
			b.fail(fmt.Errorf("worker %s ended by itself: %w", name, err))
		}
	}()
	b.cleanup.add("end worker "+name, func() error { h.kill(); return nil })
	return h, nil
}

// signal reaches all processes of a worker.
func (h *hand) signal(s syscall.Signal) error {
	if err := syscall.Kill(-h.cmd.Process.Pid, s); err != nil {
		return fmt.Errorf("send %v to worker %s: %w", s, h.name, err)
	}
	return nil
}

// dismiss lets a worker that looks at its standard input end in order.
func (h *hand) dismiss() error {
	h.gone.Store(true)
	err := h.in.Close()
	<-h.ended
	return err
}

// kill is kill -9.
func (h *hand) kill() {
	h.gone.Store(true)
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL) // an error means that it is gone already
	<-h.ended
}

// psql returns a command of psql for the demo's database.
func (b *bank) psql(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path := filepath.Join(b.server.BinDir(), "psql")
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("psql"); err != nil {
			return nil, fmt.Errorf("the demo of payments needs psql, which PostgreSQL's client packages have (Debian: postgresql-client): %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-X", "-q", "-t", b.url()}, args...)...)
	cmd.Env = append(os.Environ(), "PGAPPNAME="+name)
	cmd.Dir = b.dir
	return cmd, nil
}

func (b *bank) psqlFile(ctx context.Context, file string) error {
	cmd, err := b.psql(ctx, "demo", "-v", "ON_ERROR_STOP=1", "-v", fmt.Sprintf("payments=%d", paymentCount), "-f", file)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("psql -f %s: %w\n%s", file, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hirePsql starts a worker that is psql and the file worker.sql, again and again.
func (b *bank) hirePsql(name string) (*hand, error) {
	psql, err := b.psql(context.Background(), name)
	if err != nil {
		return nil, err
	}
	loop := exec.Command("/bin/sh", append([]string{"-c", `while echo '\i worker.sql'; do :; done | "$@"`, "sh"}, psql.Args...)...)
	loop.Env, loop.Dir = psql.Env, psql.Dir
	return b.hire(name, loop, func(string) {})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

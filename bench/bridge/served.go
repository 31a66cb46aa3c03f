package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
)

// serve is what a child does that is a destination: it writes its address, and that of its control, to a file, and takes down what arrives.
func serve(file string, start func(a *env.Arrivals) (address string, stop func(), err error)) error {
	ctx, end := child.Context()
	defer end()
	a := &env.Arrivals{}
	address, stop, err := start(a)
	if err != nil {
		return err
	}
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control := http.NewServeMux()
	control.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, a.Count()) })
	control.HandleFunc("/times", func(w http.ResponseWriter, _ *http.Request) {
		var out []byte
		for _, t := range a.Times() {
			out = binary.LittleEndian.AppendUint64(out, uint64(t))
		}
		_, _ = w.Write(out) // whoever asked went away
	})
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(l, control) }()
	if err := os.WriteFile(file, []byte(address+"\nhttp://"+l.Addr().String()+"\n"), 0o644); err != nil {
		return err
	}
	child.Ready()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// served is a destination in a child, which takes arrivals down by itself. It is another one after each Fresh, since it may keep all in memory.
type served struct {
	name, dir string
	process   *child.Process
	control   string
	client    http.Client
}

var _ Server = (*served)(nil)

// Fresh implements Server.
func (s *served) Fresh(ctx context.Context) (address string, err error) {
	if err := s.Stop(); err != nil {
		return "", err
	}
	file := filepath.Join(s.dir, s.name+".url")
	p, err := child.Start(ctx, child.Spec{
		Name: s.name, Log: filepath.Join(s.dir, s.name+".log"), AwaitReady: true, Cmd: child.Command(context.WithoutCancel(ctx), s.name, file),
	})
	if err != nil {
		return "", err
	}
	s.process = p
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	lines := strings.Fields(string(text))
	if len(lines) != 2 {
		return "", fmt.Errorf("%s says %q of its addresses", s.name, text)
	}
	s.control = lines[1]
	return lines[0], nil
}

// PIDs implements Server.
func (s *served) PIDs() []int { return []int{s.process.PID()} }

// Count implements Server.
func (s *served) Count(ctx context.Context) (int64, error) {
	text, err := s.ask(ctx, "/count")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}

// Listen implements Server: it always does.
func (s *served) Listen(context.Context) error { return nil }

// Arrived implements Server.
func (s *served) Arrived(ctx context.Context) (int64, error) { return s.Count(ctx) }

// Times implements Server.
func (s *served) Times(ctx context.Context) ([]int64, error) {
	text, err := s.ask(ctx, "/times")
	if err != nil {
		return nil, err
	}
	times := make([]int64, len(text)/8)
	for i := range times {
		times[i] = int64(binary.LittleEndian.Uint64(text[8*i:]))
	}
	return times, nil
}

func (s *served) ask(ctx context.Context, what string) (text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.control+what, nil)
	if err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", s.name, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	return io.ReadAll(response.Body)
}

// Stop implements Server.
func (s *served) Stop() error {
	s.client.CloseIdleConnections()
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.Stop()
}

// program is a program that a destination needs, or an error that says what has it.
func program(name, packageName string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not there: `apt-get install %s` installs it", name, packageName)
}

// freePort is a port of the loopback interface that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// accepts is an error while nobody takes connections at an address.
func accepts(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

package linktest

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is for what must happen, quiet for what must not.
const (
	patience = 20 * time.Second
	quiet    = 50 * time.Millisecond
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a listening server and a link to it.
type scene struct {
	t        *testing.T
	listener net.Listener
	link     *Link
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, listener: listen(t)}
	link, err := Start(s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Stop)
	s.link = link
	return s
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (s *scene) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.link.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *scene) accept(l net.Listener) net.Conn {
	s.t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// connect returns the two ends of a connection through the link.
func (s *scene) connect() (client, server net.Conn) {
	s.t.Helper()
	client = s.dial()
	return client, s.accept(s.listener)
}

func (s *scene) heal() {
	s.t.Helper()
	if err := s.link.Heal(); err != nil {
		s.t.Fatal(err)
	}
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v, want %q", got, err, want)
	}
}

// nothing checks that neither bytes nor an end arrive.
func nothing(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(quiet))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v, want nothing", n, err)
	}
}

func ended(t *testing.T, c net.Conn, want error) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, want) {
		t.Fatalf("read ended with %v, want %v", err, want)
	}
}

var errReset error = syscall.ECONNRESET

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Hundreds of silent connections to both ports take no file from deliveries, and no turn from those who have something to say.
func TestIdleConnectionsStopNothing(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url, received := webhookReceiver(t, accepts)
	db.Exec(t, `SELECT postrider.subscribe('billing', '{>}', $1)`, url)
	p := startWith(t, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -n 256; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_CALLBACK_ADDR=127.0.0.1:0", "POSTRIDER_CALLBACK_SECRETS=env:CB", "CB="+strings.Repeat("x", 32))
	p.waitFor("msg=relaying")
	health := p.waitFor(`serving .*address=(\S+)`)[1]
	callbacks := p.waitFor(`receiving callbacks.*address=(\S+)`)[1]
	var open []net.Conn
	for i := range 600 {
		address := []string{health, callbacks}[i%2]
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%3 == 0 { // half a request
			if _, err := io.WriteString(conn, "POST /callbacks/x HTTP/1.1\r\nHost: x\r\n"); err != nil {
				continue // it was closed for a later one
			}
		}
		open = append(open, conn)
	}
	for i := range 5 {
		on(t, db.URL(), "enqueue", "a", fmt.Sprint(i)).ok()
		receive(t, received)
	}
	if status, _ := p.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d", status)
	}
	client := http.Client{Timeout: patience}
	res, err := client.Post("http://"+callbacks+"/callbacks/billing/1/2/x/complete", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode/100 != 4 {
		t.Errorf("a forged callback is answered with %d", res.StatusCode)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 128 {
		t.Errorf("the process has %d of 256 files open while %d connections were made", len(files), len(open))
	}
}

// A bounded listener closes the silent, spares the busy, and leaves room for other addresses.
func TestBoundedListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := bound(inner, 8)
	started, finish := make(chan struct{}), make(chan struct{})
	server := &http.Server{ConnContext: l.remember, Handler: l.whileBusy(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			started <- struct{}{}
			<-finish
		}
	}))}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		conn, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	long := dial("127.0.0.1")
	io.WriteString(long, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	other := dial("127.0.0.2")
	var silent []net.Conn
	for range 40 {
		silent = append(silent, dial("127.0.0.1"))
	}
	ask := func(conn net.Conn) string {
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		text := make([]byte, 12)
		io.ReadFull(conn, text)
		return string(text)
	}
	if got := ask(dial("127.0.0.1")); got != "HTTP/1.1 200" {
		t.Errorf("a new connection gets %q", got)
	}
	if got := ask(other); got != "HTTP/1.1 200" {
		t.Errorf("another address's connection gets %q", got)
	}
	silent[0].SetDeadline(time.Now().Add(patience))
	if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("the oldest silent connection is not closed: %v", err)
	}
	close(finish)
	long.SetDeadline(time.Now().Add(patience))
	text := make([]byte, 12)
	if _, err := io.ReadFull(long, text); err != nil || string(text) != "HTTP/1.1 200" {
		t.Errorf("the busy connection got %q, %v", text, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.conns); n > 8 || l.of["127.0.0.1"] > 6 {
		t.Errorf("%d connections are kept, %d of one address", n, l.of["127.0.0.1"])
	}
}

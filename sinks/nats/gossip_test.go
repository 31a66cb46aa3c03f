package natssink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks/sinktest"
)

// gossip is a server that greets, names another server, and hangs up after it was told who connects.
type gossip struct {
	addr string

	mu   sync.Mutex
	told []string // the CONNECT lines
}

func startGossip(t *testing.T, names string) *gossip {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gossip{addr: l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(sinktest.Patience))
			fmt.Fprintf(conn, `INFO {"server_id":"X","version":"2.11.0","proto":1,"headers":true,"max_payload":1048576,"connect_urls":[%s]}`+"\r\n", names)
			r := bufio.NewReader(conn)
			line, _ := r.ReadString('\n')
			g.mu.Lock()
			g.told = append(g.told, line)
			g.mu.Unlock()
			io.WriteString(conn, "PONG\r\n")
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return g
}

func (g *gossip) connects() (n int, all string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.told), strings.Join(g.told, "")
}

// What is for the servers that the address names is not told to those that one of them names, nor to whom the guard refuses.
func TestCredentialsAreNotForGossip(t *testing.T) {
	refuse := func(addr string) func(context.Context, string, string, syscall.RawConn) error {
		return func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if address == addr {
				return errors.New("refused")
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		userinfo string
		guarded  bool
		reaches  bool
	}{
		"nothing to tell": {"", false, true},
		"in the options":  {"", false, false},
		"password":        {"joe:geheim@", false, false},
		"token":           {"geheim@", false, false},
		"guarded":         {"", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := startGossip(t, "")
			named := startGossip(t, `"`+other.addr+`"`)
			cfg := Config{Servers: []string{"nats://" + c.userinfo + named.addr}}
			if name == "in the options" {
				file := keep(t, "geheim")
				cfg.Auth, cfg.Secrets = Auth{User: "joe", Password: "file:" + file.path}, file.store()
			}
			if c.guarded {
				cfg.Control = refuse(other.addr)
			}
			open(t, cfg)
			deadline := time.Now().Add(sinktest.Patience)
			for {
				n, _ := named.connects()
				m, told := other.connects()
				if strings.Contains(told, "geheim") {
					t.Fatalf("the other server was told %s", told)
				}
				if n > 5 && (m > 0) == c.reaches {
					break
				}
				if m > 0 && !c.reaches || time.Now().After(deadline) {
					t.Fatalf("%d connections to the server named in the address, %d to the one that it named", n, m)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if _, told := named.connects(); c.userinfo != "" && !strings.Contains(told, "geheim") {
				t.Errorf("the server that is meant was told %s", told)
			}
		})
	}
}

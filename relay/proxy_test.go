package relay

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a relay and its server. It can freeze, as if the relay's process hung, and cut all connections.
type proxy struct {
	t      *testing.T
	listen net.Listener
	server string
	done   sync.WaitGroup

	mu     sync.Mutex
	thawed *sync.Cond
	frozen bool
	closed bool
	conns  map[net.Conn]bool
}

// newProxy listens until the test ends, after what the test starts later has been stopped.
func newProxy(t *testing.T, port int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listen: l, server: fmt.Sprintf("127.0.0.1:%d", port), conns: make(map[net.Conn]bool)}
	p.thawed = sync.NewCond(&p.mu)
	p.done.Go(p.accept)
	t.Cleanup(func() {
		p.cut()
		p.done.Wait()
	})
	return p
}

// config makes a relay connect through the proxy.
func (p *proxy) config(c *Config) {
	u, err := url.Parse(c.DatabaseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Host = p.listen.Addr().String()
	c.DatabaseURL = u.String()
}

// freeze stops all traffic, of new connections too.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// thaw lets everything through that has waited.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.thawed.Broadcast()
}

// cut closes every connection and takes no new one.
func (p *proxy) cut() {
	p.mu.Lock()
	p.closed, p.frozen = true, false
	for c := range p.conns {
		c.Close()
	}
	p.thawed.Broadcast()
	p.mu.Unlock()
	p.listen.Close()
}

func (p *proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil || !p.track(client, server) {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		p.done.Go(func() { p.pipe(server, client) })
		p.done.Go(func() { p.pipe(client, server) })
	}
}

func (p *proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	if p.closed {
		for _, c := range conns {
			delete(p.conns, c)
		}
	}
	return !p.closed
}

// pipe copies until either side closes.
func (p *proxy) pipe(to, from net.Conn) {
	defer func() {
		to.Close()
		from.Close()
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.frozen {
			p.thawed.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
